package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// seek is one attempt to reach an agent: everything that may lead to it is tried
// side by side, and the first session wins. All but what its goroutines do is done
// by run.
type seek struct {
	node   *Node
	to     sdk.AgentID
	ctx    context.Context
	cancel context.CancelFunc
	start  time.Time
	helper sync.WaitGroup
	events chan event

	dialling   int // dials under way
	resolving  bool
	searching  bool
	strict     bool // the second search, which misses no newer record, was begun
	configured bool // the settings have addresses of the agent
	from       map[netip.AddrPort]source
	found      *dht.Result // of the last search
	searchErr  error
	failures   []error // of dials
}

// event is what a goroutine of a seek has brought: exactly one field is set.
type event struct {
	dialled  *dialled
	record   *dht.Record      // one that a search has found, and perhaps not the newest
	searched *searched        // the end of a search
	resolved []netip.AddrPort // of the settings; not nil
}

type dialled struct {
	session *transport.Session
	reused  bool
	err     error
}

type searched struct {
	result *dht.Result
	err    error
}

// open reaches an agent: at the addresses of the cache and the settings, and at
// those that the DHT finds, as they come.
func (n *Node) open(ctx context.Context, to sdk.AgentID) (*connection, *sdk.Error) {
	s := &seek{node: n, to: to, start: n.now(), events: make(chan event), from: map[netip.AddrPort]source{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer func() { s.cancel(); s.helper.Wait() }()
	return s.run()
}

func (s *seek) run() (*connection, *sdk.Error) {
	s.search(dht.Search{})
	s.dial(s.node.addresses.get(s.node.now(), s.to), sourceCache)
	s.resolve()
	for {
		if s.dialling == 0 && !s.resolving && !s.searching && !s.again() {
			return nil, s.err()
		}
		select {
		case e := <-s.events:
			if c, over := s.take(e); over {
				if c == nil {
					return nil, s.err()
				}
				return c, nil
			}
		case <-s.ctx.Done():
			return nil, s.err()
		}
	}
}

// tell hands an event to run, unless that has ended.
func (s *seek) tell(e event) {
	select {
	case s.events <- e:
	case <-s.ctx.Done():
	}
}

// take takes one event. over tells that nothing else is waited for.
func (s *seek) take(e event) (c *connection, over bool) {
	switch {
	case e.dialled != nil:
		s.dialling--
		d := e.dialled
		if d.err == nil {
			return s.connected(d), true
		}
		if !slices.Contains(s.failures, d.err) { // joined dials fail together
			s.failures = append(s.failures, d.err)
			s.node.dialFailed(s.to, d.err)
		}
	case e.record != nil:
		s.learn(e.record)
	case e.resolved != nil:
		s.resolving, s.configured = false, len(e.resolved) > 0
		s.dial(e.resolved, sourceSettings)
	case e.searched != nil:
		s.searching = false
		s.found, s.searchErr = e.searched.result, e.searched.err
		if s.searchErr == nil {
			s.learn(s.found.Record)
		}
	}
	// Older records are no way to who has withdrawn; what the operator says is.
	return nil, errors.As(s.searchErr, new(*dht.WithdrawnError)) && !s.resolving && !s.configured
}

func (s *seek) connected(d *dialled) *connection {
	addr := d.session.RemoteAddr()
	src, dialled := s.from[addr]
	if !dialled { // the agent has dialled this node meanwhile
		return &connection{session: d.session, reused: d.reused, source: sourceSession}
	}
	s.node.addresses.worked(s.node.now(), s.to, addr)
	s.node.backoff.worked(addr)
	return &connection{session: d.session, reused: d.reused, source: src}
}

// learn takes a verified record, and dials what is new in it. One that is older
// than what this node knew has nothing to say.
func (s *seek) learn(r *dht.Record) {
	if known := s.node.addresses.record(s.to); known != nil && known.Seq > r.Seq {
		return
	}
	s.node.learned(r, true)
	s.dial(r.Addrs, sourceDHT)
}

// dial dials what was not dialled yet. It joins the dial under way, if there is one.
func (s *seek) dial(addrs []netip.AddrPort, src source) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool { _, tried := s.from[a]; return tried })
	if len(addrs) == 0 {
		return
	}
	for _, a := range addrs {
		s.from[a] = src
	}
	s.dialling++
	s.helper.Go(func() {
		session, reused, err := s.node.endpoint.Session(s.ctx, transport.PeerKey(s.to), addrs)
		s.tell(event{dialled: &dialled{session, reused, err}})
	})
}

// resolve asks for the addresses that the settings have.
func (s *seek) resolve() {
	s.resolving = true
	s.helper.Go(func() {
		s.tell(event{resolved: append([]netip.AddrPort{}, s.node.configured(s.ctx, s.to)...)})
	})
}

func (s *seek) search(how dht.Search) {
	s.searching = true
	how.Provisional = func(r *dht.Record) { s.tell(event{record: r}) }
	s.helper.Go(func() {
		r, err := s.node.dht.Search(s.ctx, dht.Key(s.to), how)
		s.tell(event{searched: &searched{r, err}})
	})
}

// again searches once more when nobody answered where the DHT said: three holders
// can be behind all together.
func (s *seek) again() bool {
	if s.strict || s.searchErr != nil || s.ctx.Err() != nil {
		return false
	}
	s.strict = true
	s.search(dht.Search{Strict: true})
	return true
}

// err says why there is no session.
func (s *seek) err() *sdk.Error {
	down := s.node.dht.UplinkDown()
	late := s.ctx.Err() != nil
	asked := 0
	if s.found != nil {
		asked = len(s.found.Trace)
	}
	took := s.node.now().Sub(s.start)
	if r := s.node.addresses.record(s.to); r != nil && r.Withdrawn() && len(s.from) == 0 { // and nobody knows a newer one
		return lookupError(s.to, &dht.WithdrawnError{Seq: r.Seq, Since: r.IssuedAt}, asked, took, down)
	}
	switch {
	case errors.As(s.searchErr, new(*dht.WithdrawnError)), len(s.from) == 0 && s.searchErr != nil && !late:
		return lookupError(s.to, s.searchErr, asked, took, down)
	case len(s.from) == 0:
		return &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: fmt.Sprintf("no address record of %s was found in %s; is its node running, with the same --network?", s.to, connectLimit)}
	}
	err := errors.Join(s.failures...)
	e := dialError(s.to, err)
	switch {
	case localFault(err):
		e.Text = fmt.Sprintf("no address of %s could be dialled from this machine; check its network", s.to.Short())
	case down:
		e.Text += "; nor does any other node at present: check this machine's network"
	case late:
		e.Text += fmt.Sprintf(" within %s", connectLimit)
	}
	return e
}

// configured are the addresses that the settings have of an agent.
func (n *Node) configured(ctx context.Context, to sdk.AgentID) (addrs []netip.AddrPort) {
	for _, p := range n.cfg.Bootstrap {
		if p.Agent == to {
			addrs = append(addrs, resolveHost(ctx, p.Host)...)
		}
	}
	return addrs
}

// known returns the addresses that need no search, the cache's first.
func (n *Node) known(ctx context.Context, to sdk.AgentID) ([]netip.AddrPort, source) {
	addrs, src := n.addresses.get(n.now(), to), sourceCache
	if len(addrs) == 0 {
		src = sourceSettings
	}
	for _, a := range n.configured(ctx, to) {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs, src
}
