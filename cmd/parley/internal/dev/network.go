package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/parley-p2p/parley/node"
)

// names are the nodes', in their order.
var names = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}

// MaxNodes is how many nodes a network has at most, MinNodes at least.
const (
	MinNodes = 2
	MaxNodes = 8
)

// member is one node of the network.
type member struct {
	name, data string
	node       *node.Node
	ended      chan struct{}
	err        error // of Run; set before ended is closed
}

// network is what runs.
type network struct {
	members []*member
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// settings are what all nodes have in common.
type settings struct {
	plugins  string
	dna      string
	dnas     node.DNASettings
	debug    bool
	deadline time.Duration
}

// startNetwork starts nodes that know one another, and returns when each can be
// found by the others. After an error none runs.
func startNetwork(ctx context.Context, o settings, list []string, data func(name string) string, log func(name string) *slog.Logger) (n *network, err error) {
	n = &network{}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
			n = nil
		}
	}()
	cfg := node.Config{PluginDir: o.plugins, Listen: "127.0.0.1:0", Network: "dev-" + rand.Text(), Deadline: o.deadline,
		DebugHandlers: o.debug, DNAs: map[string]node.DNASettings{o.dna: o.dnas}}
	for _, name := range list {
		cfg.DataDir, cfg.Log = data(name), log(name)
		m, err := n.start(running, name, cfg)
		if err != nil {
			return n, fmt.Errorf("start %s: %w", name, err)
		}
		if err := m.await(ctx); err != nil {
			return n, fmt.Errorf("start %s: %w", name, err)
		}
		// All enter through the first one.
		if len(cfg.Bootstrap) == 0 {
			cfg.Bootstrap = []node.Peer{{Agent: m.node.Agent(), Host: m.node.Addr().String()}}
		}
	}
	for _, m := range n.members {
		if err := m.node.WaitReady(ctx); err != nil {
			return n, fmt.Errorf("%s can't be found by the others: %w", m.name, err)
		}
	}
	return n, nil
}

func (n *network) start(ctx context.Context, name string, cfg node.Config) (*member, error) {
	// What earlier binaries did is held against none.
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, "plugins", "rollout")); err != nil {
		return nil, err
	}
	m := &member{name: name, data: cfg.DataDir, ended: make(chan struct{})}
	var err error
	if m.node, err = node.New(cfg); err != nil {
		return nil, err
	}
	n.members = append(n.members, m)
	n.running.Go(func() {
		m.err = m.node.Run(ctx)
		close(m.ended)
	})
	return m, nil
}

// await waits until a node serves.
func (m *member) await(ctx context.Context) error {
	select {
	case <-m.node.Started():
		return nil
	case <-m.ended:
		return errors.Join(errors.New("it ended"), m.err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop stops all nodes in order, and waits for them.
func (n *network) stop() error {
	n.cancel()
	n.running.Wait()
	var errs []error
	for _, m := range n.members {
		if m.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, m.err))
		}
	}
	return errors.Join(errs...)
}

// agents are the AgentIDs by the nodes' names.
func (n *network) agents() map[string]string {
	out := map[string]string{}
	for _, m := range n.members {
		out[m.name] = m.node.Agent().String()
	}
	return out
}

func (n *network) member(name string) *member {
	for _, m := range n.members {
		if m.name == name {
			return m
		}
	}
	return nil
}
