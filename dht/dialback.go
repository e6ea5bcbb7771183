package dht

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// DialBacker is what a Network is that can prove others' addresses: it opens a
// session to the agent at exactly this address, though another may be open, and
// closes it. A Network that is none leaves every node a server on its own word.
type DialBacker interface {
	DialBack(ctx context.Context, k Key, addr netip.AddrPort) error
}

const (
	dialBackLimit = 3 * time.Second // of one
	dialBacks     = 8               // for others at once
	provers       = 3               // contacts, in as many networks, that are asked
	proveSoon     = time.Second     // while nobody can be asked
	proveLimit    = 15 * time.Second
	proveFirst    = time.Minute // after a proof that failed
	proveMost     = 10 * time.Minute
	proveAgain    = 2 * time.Hour
	backBurst     = 8 // dial-backs for one peer
	backRate      = 1.0 / 30
	backNetBurst  = 16 // for all of one narrow network
	backNetRate   = 1.0 / 10
)

// proof is whether this node can be dialled from outside: what decides if it
// takes part in the DHT as a server or as a client.
type proof struct {
	server  bool
	known   bool        // server is more than a guess
	asked   map[Key]int // provers under way, and which address they were asked for
	since   time.Time   // asked
	yes, no int
	next    time.Time
	backoff time.Duration
}

// flag is how this node publishes itself.
func (p *proof) flag() Flags {
	if p.server {
		return FlagServer
	}
	return FlagClient
}

// prove asks contacts to dial this node, where that is due.
func (c *core) prove(now time.Time) {
	p := &c.proof
	if len(p.asked) > 0 && now.Sub(p.since) > proveLimit {
		p.asked = nil
		c.judge(now)
	}
	if !c.cfg.dialBack || len(c.own.addrs) == 0 || len(p.asked) > 0 || now.Before(p.next) {
		return
	}
	var groups []group
	p.asked, p.since, p.yes, p.no = map[Key]int{}, now, 0, 0
	if c.table.n == 0 { // they may all wait for one another: a prover need be no server
		for _, b := range c.cfg.Bootstrap[:min(len(c.cfg.Bootstrap), provers)] {
			c.askProver(b)
		}
	}
	for _, e := range c.table.closest(c.randomAfter(ID{}, 0), c.table.n, func(e *entry) bool { return e.fails == 0 }) {
		var wide []group
		for _, g := range groupsOf(nil, c.cfg.Group, e.ref()) {
			if g.wide {
				wide = append(wide, g)
			}
		}
		if slices.ContainsFunc(wide, func(g group) bool { return slices.Contains(groups, g) }) {
			continue
		}
		groups = append(groups, wide...)
		c.askProver(e.contact())
		if len(p.asked) == provers {
			return
		}
	}
	if len(p.asked) == 0 {
		p.next = now.Add(proveSoon)
	}
}

func (c *core) askProver(ct Contact) {
	if c.deliver(ct, &Request{Op: OpDialBack, Addr: c.own.addrs[0]}) {
		c.proof.asked[ct.Key] = 0
	}
}

// proved takes a prover's answer, nil if there is none.
func (c *core) proved(now time.Time, cl *call, resp *Response) {
	p := &c.proof
	i, asked := p.asked[cl.to.Key]
	if !asked || i >= len(c.own.addrs) || cl.req.Addr != c.own.addrs[i] {
		return
	}
	switch {
	case resp != nil && resp.Status == StatusOK:
		p.yes++
	case resp != nil && resp.Status == StatusInvalid && i+1 < len(c.own.addrs):
		// This address is not the one that it sees us come from: perhaps the next is.
		if c.deliver(cl.to, &Request{Op: OpDialBack, Addr: c.own.addrs[i+1]}) {
			p.asked[cl.to.Key] = i + 1
			return
		}
	case resp != nil && resp.Status == StatusNone:
		p.no++
	}
	delete(p.asked, cl.to.Key)
	if len(p.asked) == 0 {
		c.judge(now)
	}
}

// judge draws the conclusion when all provers have answered.
func (c *core) judge(now time.Time) {
	p := &c.proof
	p.backoff = min(max(2*p.backoff, proveFirst), proveMost)
	p.next = now.Add(c.jitter(p.backoff))
	if p.yes+p.no == 0 {
		return // nobody could tell
	}
	was, known := p.server, p.known
	p.server, p.known = p.yes >= p.no && p.yes > 0, true
	if p.server {
		p.backoff, p.next = 0, now.Add(c.jitter(proveAgain))
	}
	if p.server != was || !known {
		c.sign(now)
		c.sched.publish = now
	}
}

// unproved tells whether the own record should wait for the first proof.
func (c *core) unproved(now time.Time) bool {
	p := &c.proof
	return c.cfg.dialBack && !p.known && (len(p.asked) > 0 || now.Sub(c.sched.started) < dialBackLimit)
}

// dialBack dials a peer anew, at the address that its session comes from and no
// other: nobody can aim it at a third party. Who shares that address can name any
// port of it. He learns whether he himself answers there and nothing else: whatever
// keeps others from it, closed, filtered or another service, takes dialBackLimit to
// be told.
func (d *DHT) dialBack(ctx context.Context, from Key, fromAddr netip.Addr, req *Request) *Response {
	d.mu.Lock()
	now := d.cfg.Now()
	resp := &Response{Seq: seqOf(d.core.own.rec), Time: uint64(now.UnixMilli())}
	back, able := d.cfg.Network.(DialBacker)
	wait := time.Duration(0)
	switch {
	case !able || req.Addr.Addr().Unmap() != fromAddr.Unmap():
		resp.Status, resp.Reason = StatusInvalid, "only the address that a session comes from is dialled"
	case d.backs >= dialBacks:
		wait = dialBackLimit
	default:
		narrow, _ := d.cfg.Group(fromAddr)
		wait = d.core.budgets.mayDialBack(now, from, narrow)
	}
	if wait > 0 {
		d.core.busy(resp, wait, "too many dial-backs")
	}
	if resp.Status != StatusOK {
		d.mu.Unlock()
		return resp
	}
	d.backs++
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, dialBackLimit)
	defer cancel()
	err := back.DialBack(ctx, from, req.Addr)
	d.mu.Lock()
	d.backs--
	d.mu.Unlock()
	if err != nil {
		resp.Status = StatusNone
		<-ctx.Done() // its end is all that can be seen of why
	}
	return resp
}
