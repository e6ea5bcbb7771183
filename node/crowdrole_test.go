package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// A crowd process runs nodes of one network. It takes crowdCommands as JSON from
// its standard input and answers each with a crowdReply, in order. At the input's
// end it stops its nodes, and exits with 0 if nothing of them is left.

// crowdCommand asks for one thing: exactly one field is set.
type crowdCommand struct {
	Start *crowdStart `json:"start,omitempty"`
	Ready bool        `json:"ready,omitempty"` // wait until all nodes are
	Finds []crowdFind `json:"finds,omitempty"` // one after the other
	Use   bool        `json:"use,omitempty"`
}

type crowdStart struct {
	Count     int      `json:"count"`
	Bootstrap []string `json:"bootstrap"` // peer forms
}

type crowdFind struct {
	Node  int         `json:"node"` // who looks, by its place in the process
	Agent sdk.AgentID `json:"agent"`
}

type crowdReply struct {
	Started []string        `json:"started,omitempty"`  // peer forms
	Ready   []time.Duration `json:"ready_ns,omitempty"` // each node's, since it began to start
	Found   []crowdFound    `json:"found,omitempty"`
	Use     crowdUse        `json:"use,omitzero"`
	Err     string          `json:"err,omitempty"`
}

// crowdUse is what a process takes for its nodes.
type crowdUse struct {
	Goroutines int           `json:"goroutines"`
	Heap       uint64        `json:"heap"` // bytes in use, stacks included
	CPU        time.Duration `json:"cpu_ns"`
}

// crowdFound is what a ping, and then a search of the DHT, made of an agent.
type crowdFound struct {
	Ping     control.PingResult `json:"ping"`
	PingErr  *sdk.Error         `json:"ping_err,omitempty"`
	PingTook time.Duration      `json:"ping_took_ns"` // with the search and the dial before it
	Search   string             `json:"search"`       // the outcome
	Reason   string             `json:"reason"`
	Addrs    []netip.AddrPort   `json:"addrs"`
	Took     time.Duration      `json:"took_ns"` // the search
}

// crowdReadyLimit bounds how long a node may take to be ready.
const crowdReadyLimit = 3 * time.Minute

type crowdNode struct {
	*Node
	begun time.Time
	ended chan struct{}
	ready chan struct{} // closed when took and err are written
	took  time.Duration
	err   error
}

type crowdMember struct {
	dir    string
	ctx    context.Context
	nodes  []*crowdNode
	failed chan error // of a node's Run; holds the first
}

// crowdRole runs a crowd process: DIR is where its nodes' data directories go.
func crowdRole(args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the runtime's poller stays open
	exitOn(err)
	l.Close()
	before := descriptors()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowdMember{dir: args[0], ctx: ctx, failed: make(chan error, 1)}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var cmd crowdCommand
		err := in.Decode(&cmd)
		if errors.Is(err, io.EOF) {
			break
		}
		exitOn(err)
		exitOn(out.Encode(c.do(&cmd)))
	}
	cancel()
	for _, n := range c.nodes {
		<-n.ended
		<-n.ready
	}
	select {
	case err := <-c.failed:
		exitOn(err)
	default:
	}
	if left := awaitNothingLeft(before); left != "" {
		exitOn(fmt.Errorf("left behind by %d nodes: %s", len(c.nodes), left))
	}
	os.Exit(0)
}

func (c *crowdMember) do(cmd *crowdCommand) (r crowdReply) {
	switch {
	case cmd.Start != nil:
		for range cmd.Start.Count {
			n, err := c.start(cmd.Start.Bootstrap)
			if err != nil {
				return crowdReply{Err: err.Error()}
			}
			r.Started = append(r.Started, Peer{Agent: n.Agent(), Host: n.Addr().String()}.String())
		}
	case cmd.Ready:
		for i, n := range c.nodes {
			<-n.ready
			if n.err != nil {
				s, _ := n.Status(c.ctx)
				return crowdReply{Err: fmt.Sprintf("node %d is not ready after %s: %v: %s", i, n.took, n.err, s.NotReady)}
			}
			r.Ready = append(r.Ready, n.took)
		}
	case cmd.Use:
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		r.Use = crowdUse{Goroutines: runtime.NumGoroutine(), Heap: m.HeapInuse + m.StackInuse, CPU: processTime()}
	default:
		for _, f := range cmd.Finds {
			r.Found = append(r.Found, c.find(f))
		}
	}
	return r
}

// start starts one more node and returns when it listens. It runs a DNA, so that
// it has a source chain.
func (c *crowdMember) start(bootstrap []string) (*crowdNode, error) {
	cfg := testConfig()
	cfg.DataDir = filepath.Join(c.dir, fmt.Sprint(len(c.nodes)))
	cfg.Handlers = []sdk.Handler{sdk.Define("crowd", "1", sdk.Receive(func(*sdk.Context, string) (string, error) { return "", nil }))}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	for _, b := range bootstrap {
		p, err := ParsePeer(b)
		if err != nil {
			return nil, err
		}
		cfg.Bootstrap = append(cfg.Bootstrap, p)
	}
	inner, err := New(cfg)
	if err != nil {
		return nil, err
	}
	n := &crowdNode{Node: inner, begun: time.Now(), ended: make(chan struct{}), ready: make(chan struct{})}
	c.nodes = append(c.nodes, n)
	go func() {
		defer close(n.ended)
		if err := n.Run(c.ctx); err != nil {
			select {
			case c.failed <- fmt.Errorf("node %s: %w", cfg.DataDir, err):
			default:
			}
		}
	}()
	go func() {
		defer close(n.ready)
		ctx, cancel := context.WithTimeout(c.ctx, crowdReadyLimit)
		defer cancel()
		n.err = n.WaitReady(ctx)
		n.took = time.Since(n.begun)
	}()
	select {
	case <-n.Started():
		return n, nil
	case <-n.ended:
		return nil, fmt.Errorf("node %s ended before it had started", cfg.DataDir)
	}
}

// find pings an agent, which leads to a session with it or to an error, and then
// asks the DHT for it, whatever the node knows by then.
func (c *crowdMember) find(f crowdFind) (r crowdFound) {
	n := c.nodes[f.Node]
	begun := time.Now()
	var err error
	r.Ping, err = n.Ping(c.ctx, f.Agent)
	r.PingTook = time.Since(begun)
	if err != nil && !errors.As(err, &r.PingErr) {
		r.PingErr = &sdk.Error{Code: sdk.OutcomeUnknown, Text: "not of the closed set: " + err.Error()}
	}
	begun = time.Now()
	l, err := n.DHTLookup(c.ctx, f.Agent, control.DHTSearch{})
	r.Took, r.Search, r.Reason, r.Addrs = time.Since(begun), l.Outcome, l.Reason, l.Addresses
	if err != nil {
		r.Search, r.Reason = control.OutcomeFailed, err.Error()
	}
	return r
}
