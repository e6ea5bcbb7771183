package dht

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const addrsEvery = 10 * time.Second // how often Config.Addrs is asked

// DHT is a node's part in the DHT. Its methods may be called by many goroutines.
type DHT struct {
	cfg   Config        // static
	wake  chan struct{} // capacity 1: poll again
	addrs chan struct{} // capacity 1: ask Config.Addrs again
	done  chan struct{} // closed when Run has returned

	renewed chan struct{} // capacity 1: the own record has changed

	mu      sync.Mutex // guards what follows; never held while something blocks
	core    *core
	waiters map[*op]*waiter
	running bool
	backs   int           // dial-backs under way
	ready   chan struct{} // closed while ready
	isReady bool
	told    *Record   // the own record when renewed was signalled last
	poked   time.Time // when the loop was first woken, or is to be, since it ran last
}

// waiter is a user's lookup that somebody waits for.
type waiter struct {
	changed chan struct{} // capacity 1: a better provisional answer
	done    chan struct{} // closed when finished
}

// New makes a DHT that does nothing before Run.
func New(cfg Config) (*DHT, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	d := &DHT{cfg: cfg, wake: make(chan struct{}, 1), addrs: make(chan struct{}, 1),
		ready: make(chan struct{}), renewed: make(chan struct{}, 1), done: make(chan struct{}), waiters: map[*op]*waiter{}}
	d.core = newCore(&d.cfg, cfg.Now())
	return d, nil
}

// Run joins the network, keeps the table and the own record fresh and makes all
// calls. It returns nil when ctx has ended and every goroutine of its own with
// it. It can be called once.
func (d *DHT) Run(ctx context.Context) error {
	d.mu.Lock()
	if d.running {
		d.mu.Unlock()
		return fmt.Errorf("dht: run: %w", ErrClosed)
	}
	d.running = true
	d.core.sched.init(d.cfg.Now())
	d.mu.Unlock()
	var calls sync.WaitGroup
	defer close(d.done)
	defer calls.Wait()
	timer, addrs := time.NewTimer(0), time.NewTicker(addrsEvery)
	defer timer.Stop()
	defer addrs.Stop()
	d.readAddrs()
	for {
		wait := d.step(ctx, &calls)
		timer.Reset(wait)
		due := d.cfg.Now().Add(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
			d.poke(due)
		case <-d.addrs:
			d.readAddrs()
		case <-addrs.C:
			d.readAddrs()
		}
	}
}

// step polls the core, begins its calls and returns when to step again.
func (d *DHT) step(ctx context.Context, calls *sync.WaitGroup) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	if !d.poked.IsZero() {
		d.core.pace.ran(now, now.Sub(d.poked))
		d.poked = time.Time{}
	}
	for _, cl := range d.core.poll(now) { // at most Config.MaxCalls are under way
		calls.Go(func() { d.call(ctx, cl) })
	}
	for o, w := range d.waiters {
		switch {
		case o.finished || o.kind == opPutEntry && o.took > 0:
			close(w.done)
			delete(d.waiters, o)
		case o.better:
			o.better = false
			signal(w.changed)
		}
	}
	d.setReadyLocked()
	if d.core.own.rec != d.told {
		d.told = d.core.own.rec
		signal(d.renewed)
	}
	return max(d.core.wake(now).Sub(now), time.Millisecond)
}

func (d *DHT) call(ctx context.Context, cl *call) {
	callCtx, cancel := context.WithTimeout(ctx, cl.timeout)
	defer cancel()
	resp, err := d.cfg.Network.Call(callCtx, cl.to, cl.req)
	if ctx.Err() != nil {
		return // nobody's fault
	}
	if err != nil {
		d.cfg.Log.Debug("dht call failed", "op", cl.req.Op, "agent", cl.to.Key, "error", err)
	}
	d.mu.Lock()
	now := d.cfg.Now()
	d.core.answered(now, cl.id, resp, err)
	d.pokeLocked(now)
	d.mu.Unlock()
	signal(d.wake)
}

// poke notes since when the loop should run: how late it does tells how busy the
// machine is.
func (d *DHT) poke(due time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pokeLocked(due)
}

func (d *DHT) pokeLocked(due time.Time) {
	if d.poked.IsZero() {
		d.poked = due
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (d *DHT) readAddrs() {
	addrs := d.cfg.Addrs()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.core.setAddrs(d.cfg.Now(), addrs)
	if err := d.core.stats.PublishError; err != nil && d.core.own.rec == nil {
		d.cfg.Log.Error("dht: own record not made", "error", err)
	}
}

// AddrsChanged says that Config.Addrs has something new: it is published at once.
func (d *DHT) AddrsChanged() { signal(d.addrs) }

// Serve answers a request of the node that proved the key from. An error wraps
// ErrMessage: the request is malformed, and its sender at fault. fromAddr is the
// other end of the session.
func (d *DHT) Serve(ctx context.Context, from Key, fromAddr netip.AddrPort, req *Request) (*Response, error) {
	err := req.Validate()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && from == d.core.self {
		err = messageErrorf("from this node itself")
	}
	if err != nil {
		d.core.stats.Refused++
		return nil, err
	}
	if req.Op == OpDialBack {
		d.mu.Unlock()
		resp := d.dialBack(ctx, from, fromAddr.Addr(), req)
		d.mu.Lock()
		return resp, nil
	}
	resp := d.core.serve(d.cfg.Now(), from, fromAddr.Addr(), req)
	if len(d.core.probes)+len(d.core.strangers) > 0 {
		signal(d.wake)
	}
	return resp, nil
}

// Stats returns the state of this moment.
func (d *DHT) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.statsNow()
}
