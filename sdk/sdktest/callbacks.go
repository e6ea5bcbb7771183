package sdktest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

const (
	// initTimeout is a node's default of handler-init-timeout.
	initTimeout = 30 * time.Second
	// echoMax is after how many commits of a post_commit, each because of the one
	// before, a test has a loop without an end. A node slows it down.
	echoMax = 1000
)

// TryNode is Node that returns the error of a handler that a node would reject:
// by its Describe, its Setup or its init. It may be tried again.
func (n *Net) TryNode(name string, h sdk.Handler, options ...NodeOptions) (*Node, error) {
	x, err := n.newNode(name, h, options)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	if n.nodes[x.id] != nil {
		n.mu.Unlock()
		return nil, fmt.Errorf("node %s: there is one of this name already", name)
	}
	n.nodes[x.id] = x // its init may send
	n.mu.Unlock()
	if x.desc.Init {
		ctx, cancel := context.WithTimeout(n.ctx, initTimeout)
		defer cancel()
		_, e := x.run(ctx, &sdk.Call{Kind: sdk.CallInit, ID: newMessageID(), From: x.id})
		if e != nil {
			n.mu.Lock()
			delete(n.nodes, x.id)
			n.mu.Unlock()
			return nil, fmt.Errorf("node %s: init: %w", name, e)
		}
		x.mu.Lock()
		x.initializing = false
		x.mu.Unlock()
	}
	if x.desc.PostCommit && n.begin() {
		go x.post()
	}
	return x, nil
}

func (x *Node) errInitializing() *sdk.Error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.initializing {
		return nil
	}
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text:  "the init of the DNA has not ended there",
		Limit: &sdk.Limit{Name: "init of the DNA", RetryAfter: time.Second}}
}

// Validate asks x's Validate about a public entry of another node's, as a node
// does with what it gets from others. The entry is committed nowhere.
func (x *Node) Validate(author *Node, entryType string, v any) error {
	x.net.t.Helper()
	content, err := sdk.Marshal(v)
	if err != nil || !x.desc.Validate {
		return err
	}
	author.chain.mu.Lock()
	r := author.chain.recordLocked(sdk.Header{Kind: sdk.KindEntry, EntryType: entryType, Visibility: sdk.Public,
		Cause: sdk.Cause{Kind: sdk.CallFunction, From: author.id}}, content)
	author.chain.mu.Unlock()
	if _, e := x.run(x.net.ctx, &sdk.Call{Kind: sdk.CallValidate, ID: newMessageID(), From: x.id, Records: []sdk.Record{r}}); e != nil {
		return e
	}
	return nil
}

// Settle waits until every post_commit has run, and until no notification waits or
// runs: of what was committed and sent before, and of what these commit and send in
// their turn, at whichever node. Nodes that are stopped are left out.
func (n *Net) Settle() {
	n.posts.L.Lock()
	defer n.posts.L.Unlock()
	for !n.settledLocked() && n.ctx.Err() == nil {
		n.posts.Wait()
	}
}

// settledLocked: who confirms records does so under the lock, after what its
// post_commit caused was committed.
func (n *Net) settledLocked() bool {
	n.mu.Lock()
	nodes := slices.Collect(maps.Values(n.nodes))
	n.mu.Unlock()
	for _, x := range nodes {
		if x.desc.PostCommit && x.posted < x.chain.len() && !x.isStopped() {
			return false
		}
		if !x.idle() {
			return false
		}
	}
	return true
}

// changed wakes Settle and the posters.
func (n *Net) changed() {
	n.posts.L.Lock()
	defer n.posts.L.Unlock()
	n.posts.Broadcast()
}

// post gives a node's records to its post_commit, as a node's poster does, but
// without pauses. It is a goroutine of the Net's.
func (x *Node) post() {
	defer x.net.calls.Done()
	for echoes := 0; ; {
		records := x.unposted()
		if records == nil {
			return
		}
		committed := x.deliver(records)
		x.net.posts.L.Lock()
		x.posted = records[len(records)-1].Header.Seq + 1
		x.net.posts.Broadcast()
		x.net.posts.L.Unlock()
		switch own := records[0].Header.Cause.Kind == sdk.CallPostCommit; {
		case own && committed == 0:
			echoes = 0
		case own:
			echoes++
		}
		if echoes == echoMax {
			x.net.t.Errorf("node %s: post_commit commits each time it hears of its own commits, %d times in a row: that never ends", x.name, echoMax)
			x.net.posts.L.Lock()
			x.posted = 1 << 63 // Settle waits no more
			x.net.posts.Broadcast()
			x.net.posts.L.Unlock()
			return
		}
	}
}

// unposted waits for records that post_commit has not confirmed, and gives those
// of one call; nil when the test is over.
func (x *Node) unposted() []sdk.Record {
	x.net.posts.L.Lock()
	defer x.net.posts.L.Unlock()
	for x.posted >= x.chain.len() || x.isStopped() {
		if x.net.ctx.Err() != nil {
			return nil
		}
		x.net.posts.Wait()
	}
	if x.net.ctx.Err() != nil {
		return nil
	}
	rs := x.chain.query(sdk.Query{From: x.posted, Limit: sdk.MaxPostCommitRecords}, min(sdk.MaxPostCommitBytes, x.net.options.MaxPayload))
	i := slices.IndexFunc(rs, func(r sdk.Record) bool { return r.Header.Cause != rs[0].Header.Cause })
	if i < 0 {
		return rs
	}
	return rs[:i]
}

// deliver tells how many entries the post_commit committed.
func (x *Node) deliver(records []sdk.Record) (committed int) {
	told := slices.DeleteFunc(slices.Clone(records), func(r sdk.Record) bool { return strings.HasPrefix(r.Header.EntryType, "parley.") })
	for try := 1; len(told) > 0; try++ {
		r, e := x.runCall(x.net.ctx, &sdk.Call{Kind: sdk.CallPostCommit, ID: newMessageID(), From: x.id, Records: told})
		if e == nil {
			return len(r.end())
		}
		if x.net.ctx.Err() != nil || x.isStopped() && !x.awaitStart() {
			return 0
		}
		level, what := slog.LevelWarn, "post_commit failed and is tried again"
		if try == sdk.PostCommitTries {
			level, what = slog.LevelError, "post_commit failed too often: its records are passed over"
		}
		x.log(level, what, "from", told[0].Header.Seq, "times", try, "error", e.Error())
		if try == sdk.PostCommitTries {
			return 0
		}
	}
	return 0
}

// awaitStart waits for the end of a Stop; false when the test is over.
func (x *Node) awaitStart() bool {
	x.net.posts.L.Lock()
	defer x.net.posts.L.Unlock()
	for x.isStopped() && x.net.ctx.Err() == nil {
		x.net.posts.Wait()
	}
	return x.net.ctx.Err() == nil
}
