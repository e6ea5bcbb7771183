package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-p2p/parley/cmd/parley/internal/demo"
	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
)

const (
	// patience is how long a node may look for its network before its operator
	// is told, and how often it is told again.
	patience       = 15 * time.Second
	remindEvery    = 5 * time.Minute
	clockEvery     = time.Minute
	notReadyAdvice = "check --bootstrap, --network and this machine's clock; parley ping AGENT says why one node does not answer"
)

// announcer is what announce needs of a *node.Node.
type announcer interface {
	WaitReady(context.Context) error
	Status(context.Context) (control.Status, error)
}

// announce logs when other agents can find the node, when they can't any more and
// when they can again, and what an operator should know of it meanwhile. It
// returns when ctx ends.
func announce(ctx context.Context, n announcer, log *slog.Logger) {
	ready := make(chan error, 1)
	wait := func() { ready <- n.WaitReady(ctx) }
	waiting := true
	go wait()
	remind := time.NewTimer(patience)
	defer remind.Stop()
	clock := time.NewTicker(clockEvery)
	defer clock.Stop()
	var told string
	for {
		select {
		case err := <-ready:
			waiting = false
			remind.Stop()
			switch {
			case err == nil:
				logReady(log, peerOf(ctx, n))
			case ctx.Err() == nil:
				log.Warn("others can't find this node", "error", err.Error())
			}
		case <-remind.C:
			remind.Reset(remindEvery)
			s, err := n.Status(ctx)
			if err == nil && !s.Ready {
				log.Warn("others can't find this node yet", "reason", s.NotReady, "advice", notReadyAdvice)
			}
		case <-clock.C:
			s, err := n.Status(ctx)
			if err != nil {
				continue
			}
			if s.Clock != told {
				told = s.Clock
				warnClock(log, s)
			}
			if !s.Ready && !waiting {
				log.Warn("others can't find this node any more", "reason", s.NotReady, "advice", notReadyAdvice)
				waiting = true
				remind.Reset(remindEvery)
				go wait()
			}
		case <-ctx.Done():
			if waiting {
				<-ready // WaitReady ends with ctx
			}
			return
		}
	}
}

func logReady(log *slog.Logger, peer string) {
	if peer == "" {
		log.Info("node ready: it can reach others, which can't dial it", "event", demo.ReadyEvent)
		return
	}
	log.Info("node ready: others can find it", "event", demo.ReadyEvent, "peer", peer)
}

func warnClock(log *slog.Logger, s control.Status) {
	if s.Clock == "" {
		log.Info("the clock agrees with other nodes' again")
		return
	}
	log.Warn("clock", "warning", s.Clock)
}

// peerOf is what others name in --bootstrap: an address of this node that can be
// dialled, which the one that it is bound to need not be. It is empty for a node
// that does not listen.
func peerOf(ctx context.Context, n announcer) string {
	s, err := n.Status(ctx)
	if err != nil {
		return ""
	}
	for _, addr := range append(s.Advertised, s.Listen...) {
		return node.Peer{Agent: s.Agent, Host: addr.String()}.String()
	}
	return ""
}
