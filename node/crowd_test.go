package node

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

var (
	crowdSize = flag.Int("crowd", 24, "how many nodes TestCrowd runs")
	crowdIdle = flag.Duration("crowdidle", 0, "how long TestCrowd leaves them alone to see what they take")
	crowdWave = flag.Int("crowdwave", 0, "how many of them each process of TestCrowd starts at once; 0: all")
)

const (
	crowdBootstraps = 4
	// crowdFinds is how many agents each node looks for, before the kill and after it.
	crowdFinds = 5
	// crowdUnknown is what is promised of an agent that nobody knows.
	crowdUnknown = 2 * time.Second
	// crowdAnswer bounds a process's answer to one command.
	crowdAnswer = 5 * time.Minute
)

// TestCrowd: real nodes in several processes find one another; a third of the
// processes is killed at once, and right afterwards all others find each other
// all the same. go test ./node -run Crowd -crowd=200 -v
func TestCrowd(t *testing.T) {
	c := &crowd{t: t, rand: rand.New(rand.NewPCG(1, 2))}
	c.start()
	all := c.nodes
	c.check("before the kill", c.findEachOther(), c.found)

	var alive, dead []crowdPeer
	for i, p := range c.processes {
		if i%3 == 1 {
			p.killed = true
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range all {
		if n.process.killed {
			dead = append(dead, n)
		} else {
			alive = append(alive, n)
		}
	}
	c.nodes = alive
	t.Logf("%d of %d nodes killed, with %d of %d processes", len(dead), len(all), len(c.processes)/3, len(c.processes))
	c.check("right after the kill", c.findEachOther(), c.found)
	c.logUse("then")
	c.check("agents that were killed", c.findOne(func() sdk.AgentID { return dead[c.rand.IntN(len(dead))].agent }), c.unreachable)
	c.check("agents that never were", c.findOne(func() sdk.AgentID { return newAgent(t) }), c.unknown)
	c.stop()
}

type crowd struct {
	t         *testing.T
	rand      *rand.Rand
	processes []*crowdProcess
	nodes     []crowdPeer // that run
	addrs     map[sdk.AgentID]netip.AddrPort
}

// crowdPeer is one of the nodes.
type crowdPeer struct {
	agent   sdk.AgentID
	addr    netip.AddrPort
	process *crowdProcess
	place   int // in its process
}

// crowdFinding is a find and what became of it.
type crowdFinding struct {
	from crowdPeer
	to   sdk.AgentID
	crowdFound
}

// start starts the processes and their nodes: the bootstrap nodes first, each in
// another process, then all others at once, or in waves.
func (c *crowd) start() {
	count := 6
	if *crowdSize >= 60 {
		count = 12
	}
	if *crowdSize < count*2 {
		c.t.Fatalf("-crowd=%d: at least %d", *crowdSize, count*2)
	}
	dir := shortTempDir(c.t)
	for i := range count {
		c.processes = append(c.processes, startCrowdProcess(c.t, filepath.Join(dir, fmt.Sprint(i))))
	}
	begun := time.Now()
	var bootstrap []string
	for i, p := range c.processes[:crowdBootstraps] {
		c.add(p, c.ask(p, crowdCommand{Start: &crowdStart{Count: 1, Bootstrap: bootstrap[:min(i, 1)]}}).Started)
		if c.t.Failed() {
			c.t.FailNow()
		}
		bootstrap = append(bootstrap, Peer{Agent: c.nodes[i].agent, Host: c.nodes[i].addr.String()}.String())
	}
	var mu sync.Mutex
	var took []time.Duration
	for len(c.nodes) < *crowdSize {
		c.each(func(i int, p *crowdProcess) {
			n := *crowdSize*(i+1)/count - *crowdSize*i/count - p.nodes // dealt evenly
			if *crowdWave > 0 {
				n = min(n, *crowdWave)
			}
			if n == 0 {
				return
			}
			started := c.ask(p, crowdCommand{Start: &crowdStart{Count: n, Bootstrap: bootstrap}}).Started
			mu.Lock()
			defer mu.Unlock()
			c.add(p, started)
		})
		took = nil
		c.each(func(_ int, p *crowdProcess) {
			r := c.ask(p, crowdCommand{Ready: true}).Ready
			mu.Lock()
			defer mu.Unlock()
			took = append(took, r...)
		})
		c.t.Logf("%d nodes ready after %s", len(took), time.Since(begun).Round(time.Millisecond))
	}
	ready := time.Since(begun)
	slices.SortFunc(c.nodes, func(a, b crowdPeer) int {
		return cmp.Or(cmp.Compare(a.process.dir, b.process.dir), cmp.Compare(a.place, b.place))
	})
	if len(c.nodes) != *crowdSize || len(took) != *crowdSize {
		c.t.Fatalf("%d nodes have started, %d are ready, of %d", len(c.nodes), len(took), *crowdSize)
	}
	c.addrs = map[sdk.AgentID]netip.AddrPort{}
	for _, n := range c.nodes {
		c.addrs[n.agent] = n.addr
	}
	if len(c.addrs) != *crowdSize {
		c.t.Fatalf("%d different agents", len(c.addrs))
	}
	c.t.Logf("%d nodes in %d processes: all ready after %s; one's start: %s", len(c.nodes), count,
		ready.Round(time.Millisecond), quantiles(took))
	c.logUse("when all are ready")
	if *crowdIdle > 0 {
		time.Sleep(*crowdIdle)
		c.logUse(crowdIdle.String() + " later")
	}
}

func (c *crowd) add(p *crowdProcess, started []string) {
	for _, s := range started {
		peer, err := ParsePeer(s)
		if err != nil {
			c.t.Error(err)
			return
		}
		c.nodes = append(c.nodes, crowdPeer{agent: peer.Agent, addr: netip.MustParseAddrPort(peer.Host), process: p, place: p.nodes})
		p.nodes++
	}
}

// findEachOther has every node find others, at random, that run.
func (c *crowd) findEachOther() []crowdFinding {
	var list []crowdFinding
	for i, n := range c.nodes {
		for _, k := range c.rand.Perm(len(c.nodes) - 1)[:crowdFinds] {
			if k >= i {
				k++ // anyone but itself
			}
			list = append(list, crowdFinding{from: n, to: c.nodes[k].agent})
		}
	}
	return c.find(list)
}

// findOne has every node look for one agent.
func (c *crowd) findOne(agent func() sdk.AgentID) []crowdFinding {
	var list []crowdFinding
	for _, n := range c.nodes {
		list = append(list, crowdFinding{from: n, to: agent()})
	}
	return c.find(list)
}

// find has the processes find at once, each one agent after the other.
func (c *crowd) find(list []crowdFinding) []crowdFinding {
	c.t.Helper()
	c.each(func(_ int, p *crowdProcess) {
		var places []int
		var cmd crowdCommand
		for i, f := range list {
			if f.from.process == p {
				places = append(places, i)
				cmd.Finds = append(cmd.Finds, crowdFind{Node: f.from.place, Agent: f.to})
			}
		}
		found := c.ask(p, cmd).Found
		if len(found) != len(places) {
			c.t.Errorf("%d answers to %d finds", len(found), len(places))
			return
		}
		for i, at := range places {
			list[at].crowdFound = found[i]
		}
	})
	return list
}

// check holds each find against what it should have come to.
func (c *crowd) check(what string, list []crowdFinding, wrong func(*crowdFinding) string) {
	c.t.Helper()
	right, reused := 0, 0
	var pings, dialled, searches []time.Duration
	for i := range list {
		f := &list[i]
		if w := wrong(f); w != "" {
			c.t.Errorf("%s: %s looked for %s: %s; ping after %s: %+v, %v; search after %s: %s %v %s",
				what, f.from.agent.Short(), f.to.Short(), w, f.PingTook, f.Ping, f.PingErr, f.Took, f.Search, f.Addrs, f.Reason)
		} else {
			right++
		}
		pings, searches = append(pings, f.PingTook), append(searches, f.Took)
		if f.Ping.Reused {
			reused++
		} else {
			dialled = append(dialled, f.PingTook)
		}
	}
	c.t.Logf("%s: %d of %d right; ping: %s (%d over a session that was there; others: %s); search: %s", what, right, len(list),
		quantiles(pings), reused, quantiles(dialled), quantiles(searches))
}

func (c *crowd) found(f *crowdFinding) string {
	addr := c.addrs[f.to]
	switch {
	case f.PingErr != nil:
		return "no session"
	case f.Ping.Agent != f.to:
		return "another agent"
	case f.Ping.Source != control.SourceSession && f.Ping.Address != addr: // who was dialled by it knows another port
		return "another address than " + addr.String()
	case f.Search != control.OutcomeFound:
		return "no record"
	case !slices.Contains(f.Addrs, addr):
		return "a record without " + addr.String()
	}
	return ""
}

// unreachable is what an agent is whose record outlives it.
func (c *crowd) unreachable(f *crowdFinding) string {
	switch {
	case f.PingErr == nil || f.PingErr.Code != sdk.Unreachable:
		return "not unreachable"
	case f.Search != control.OutcomeFound:
		return "no record"
	}
	return ""
}

func (c *crowd) unknown(f *crowdFinding) string {
	switch {
	case f.PingErr == nil || f.PingErr.Code != sdk.UnknownAgent:
		return "not unknown"
	case f.Search != control.OutcomeNotFound:
		return "not certainly without a record"
	case !raceDetector() && max(f.PingTook, f.Took) > crowdUnknown:
		return "later than " + crowdUnknown.String()
	}
	return ""
}
