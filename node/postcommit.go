package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

const (
	// The pauses after a post_commit that failed double from the first to the last.
	postPause    = 100 * time.Millisecond
	postPauseMax = 30 * time.Second
	// The pauses before a post_commit hears of what it committed double likewise,
	// while it commits again each time: one that never ends may not fill the disk.
	echoPause    = 10 * time.Millisecond
	echoPauseMax = time.Second
	// echoMany is when the log tells of it.
	echoMany = 32
)

// poster tells a handler of what is durable on its chain, one call after the
// other. The chain is its queue: nothing waits in memory but a page of it.
type poster struct {
	node  *Node
	app   *app
	wake  chan struct{} // capacity 1: the chain has grown
	end   context.CancelFunc
	ended chan struct{}

	// Owned by the goroutine.
	page   []sdk.Record // what follows
	echoes int          // post_commits of its own records in which it committed
}

// startPoster starts an app's poster. It ends with the node's life, or by stop.
func startPoster(n *Node, a *app) *poster {
	ctx, end := context.WithCancel(n.life)
	p := &poster{node: n, app: a, wake: make(chan struct{}, 1), end: end, ended: make(chan struct{})}
	go p.run(ctx)
	return p
}

func (p *poster) stop() {
	p.end()
	<-p.ended
}

// grown is told when records are durable. It does not block.
func (p *poster) grown() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *poster) run(ctx context.Context) {
	defer close(p.ended)
	for pause := postPause; ; {
		records, err := p.next()
		switch {
		case err != nil:
			p.app.log.Error("post_commit can't read the source chain", "error", err.Error())
			if !sleep(ctx, pause) {
				return
			}
			pause = min(2*pause, postPauseMax)
		case len(records) == 0 || !p.app.described().PostCommit: // a new version may have none
			p.page = nil
			select {
			case <-p.wake:
			case <-ctx.Done():
				return
			}
		case !p.deliver(ctx, records):
			return
		default:
			pause = postPause
			p.app.chain.SetPosted(records[len(records)-1].Header.Seq)
		}
	}
}

// next takes the records of one call, or as many of them as one post_commit
// holds; none where all are confirmed.
func (p *poster) next() ([]sdk.Record, error) {
	n := sameCause(p.page)
	if n == len(p.page) { // the page may end within a call
		seq, _ := p.app.chain.Posted()
		page, err := p.app.chain.ReadFrom(seq+1, sdk.MaxPostCommitRecords, min(sdk.MaxPostCommitBytes, p.node.cfg.MaxPayload))
		if err != nil {
			p.page = nil
			return nil, err
		}
		p.page, n = page, sameCause(page)
	}
	records := p.page[:n:n]
	p.page = p.page[n:]
	return records, nil
}

func sameCause(page []sdk.Record) int {
	for i := range page {
		if page[i].Header.Cause != page[0].Header.Cause {
			return i
		}
	}
	return len(page)
}

// deliver tells of records until post_commit has taken them, or has failed too
// often; false if ctx ended before.
func (p *poster) deliver(ctx context.Context, records []sdk.Record) bool {
	own := records[0].Header.Cause.Kind == sdk.CallPostCommit
	told := slices.DeleteFunc(slices.Clone(records), func(r sdk.Record) bool { return strings.HasPrefix(r.Header.EntryType, "parley.") })
	if len(told) == 0 { // the node's own
		return true
	}
	for i := range told {
		if len(told[i].Content) > p.node.cfg.MaxPayload {
			told[i].Content = nil
		}
	}
	if own && p.echoes > 0 && !sleep(ctx, min(echoPause<<min(p.echoes, 10), echoPauseMax)) {
		return false
	}
	log := p.app.log.With("from", told[0].Header.Seq, "to", told[len(told)-1].Header.Seq)
	failures := 0
	for pause := postPause; ; pause = min(2*pause, postPauseMax) {
		committed, e := p.call(ctx, told)
		switch {
		case e == nil:
			p.echo(own, committed)
			return true
		case ctx.Err() != nil:
			return false
		case !notRun(e):
			failures++
		}
		if failures == sdk.PostCommitTries {
			log.Error("post_commit failed too often: these records are passed over", "times", failures, "error", e.Error())
			return true
		}
		log.Warn("post_commit failed and is tried again", "in", pause, "error", e.Error())
		if !sleep(ctx, pause) {
			return false
		}
	}
}

func (p *poster) call(ctx context.Context, records []sdk.Record) (committed int, e *sdk.Error) {
	ctx, cancel := context.WithTimeout(ctx, p.node.cfg.Deadline)
	defer cancel()
	call := &sdk.Call{Kind: sdk.CallPostCommit, ID: newMessageID(), From: p.node.id.agent, Records: records}
	_, committed, e = p.node.runIn(ctx, p.app.handler, p.app, call)
	return committed, e
}

// notRun tells that the handler is not there to run anything: that is no failure
// of its post_commit. The SDK makes no such error of what a post_commit returns.
func notRun(e *sdk.Error) bool {
	return e.Side == sdk.SideNode && e.Delivered == sdk.DeliveredNo && (e.Code == sdk.Busy || e.Code == sdk.NoHandler)
}

// echo counts the post_commits that committed because of one another.
func (p *poster) echo(own bool, committed int) {
	switch {
	case !own:
	case committed == 0:
		p.echoes = 0
	default:
		if p.echoes++; p.echoes == echoMany {
			p.app.log.Warn("post_commit commits each time it hears of its own commits; it hears of them slowly from here on",
				"pause", fmt.Sprint(echoPauseMax))
		}
	}
}
