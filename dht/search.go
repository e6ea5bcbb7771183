package dht

import (
	"context"
	"fmt"
)

// Search says how thorough a lookup is.
type Search struct {
	// Strict asks every node that could have the record, and returns the newest.
	// Without it three holders that agree are enough; they could all be behind.
	Strict bool
	// Hardened goes over 8 disjoint paths in the place of 3, for a network in which
	// a third of the nodes or more lie.
	Hardened bool
	// Provisional is handed every better record as it comes, by the caller's
	// goroutine: the first one can be an old one. nil: nobody waits for them.
	Provisional func(*Record)
}

// Lookup finds the address record of an agent: final, that is with 3 distinct
// holders agreeing on the newest, or after all nearest nodes were asked. The
// Result is never nil; with an error it holds the trace only. The error wraps
// ErrNotFound, ErrNoAnswer, ErrBusy, ErrClosed or ctx's.
func (d *DHT) Lookup(ctx context.Context, k Key) (*Result, error) {
	return d.Search(ctx, k, Search{})
}

// Search is Lookup with options.
func (d *DHT) Search(ctx context.Context, k Key, s Search) (*Result, error) {
	r, _, err := d.run(ctx, "lookup of "+k.String(), NodeID(k), &op{kind: opGet, strict: s.Strict, hardened: s.Hardened}, s.Provisional)
	return r, err
}

// PutEntry publishes a public entry: it asks the nodes around its position id to
// keep body for a day, and returns when 12 of them do, or all have answered. It
// has to be done again before that day is over. The error wraps ErrEntry,
// ErrNoAnswer, ErrBusy, ErrClosed or ctx's.
func (d *DHT) PutEntry(ctx context.Context, id ID, body []byte) (holders int, err error) {
	what := "publication of entry " + id.String()
	if err := d.checkEntry(id, body); err != nil {
		return 0, fmt.Errorf("dht: %s: %w", what, err)
	}
	_, o, err := d.run(ctx, what, id, &op{kind: opPutEntry, entry: body}, nil)
	if o != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		holders = o.holders
	}
	return holders, err
}

// GetEntry fetches the public entry at id. Its body has passed Config.CheckEntry;
// what it means, and whether it is valid, its reader must judge. The Result is
// never nil. The error wraps ErrEntry, ErrNotFound, ErrNoAnswer, ErrBusy,
// ErrClosed or ctx's.
func (d *DHT) GetEntry(ctx context.Context, id ID) (body []byte, r *Result, err error) {
	what := "entry " + id.String()
	if d.cfg.CheckEntry == nil {
		return nil, &Result{}, fmt.Errorf("dht: %s: %w: this node takes part in none", what, ErrEntry)
	}
	r, o, err := d.run(ctx, what, id, &op{kind: opGetEntry}, nil)
	if err != nil {
		return nil, r, err
	}
	return o.lookup.entry, r, nil // it does not change once found
}

func (d *DHT) checkEntry(id ID, body []byte) error {
	if d.cfg.CheckEntry == nil {
		return fmt.Errorf("%w: this node takes part in none", ErrEntry)
	}
	if len(body) > MaxEntry {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrEntry, len(body), MaxEntry)
	}
	at, _, err := d.cfg.CheckEntry(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEntry, err)
	}
	if at != id {
		return fmt.Errorf("%w: it belongs at %s", ErrEntry, at)
	}
	return nil
}

// run begins a user's operation and waits for its end.
func (d *DHT) run(ctx context.Context, what string, target ID, o *op, provisional func(*Record)) (*Result, *op, error) {
	w, err := d.begin(ctx, target, o)
	if err != nil {
		return &Result{}, nil, fmt.Errorf("dht: %s: %w", what, err)
	}
	for {
		select {
		case <-w.done:
			d.mu.Lock()
			defer d.mu.Unlock()
			r, err := o.result, o.err
			if r == nil { // acknowledged before its end
				r = o.lookup.result(d.cfg.Now())
			}
			r.Trace = o.lookup.route()
			if err != nil {
				err = fmt.Errorf("dht: %s: %w, %d nodes asked", what, err, len(r.Trace))
			}
			return r, o, err
		case <-w.changed:
			d.mu.Lock()
			best := o.lookup.best
			d.mu.Unlock()
			if provisional != nil && !best.tombstone() {
				provisional(best)
			}
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-d.done:
			err = ErrClosed
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.core.cancel(o)
		delete(d.waiters, o)
		r := o.lookup.result(d.cfg.Now())
		r.Record, r.Trace = nil, o.lookup.route()
		return r, o, fmt.Errorf("dht: %s: %w, %d nodes asked", what, err, len(r.Trace))
	}
}

func (d *DHT) begin(ctx context.Context, target ID, o *op) (*waiter, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-d.done:
		return nil, ErrClosed
	default:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.core.users(); n >= d.cfg.MaxLookups {
		return nil, fmt.Errorf("%w: %d, the setting MaxLookups allows no more", ErrBusy, n)
	}
	d.core.startOp(d.cfg.Now(), o, target)
	w := &waiter{changed: make(chan struct{}, 1), done: make(chan struct{})}
	d.waiters[o] = w
	signal(d.wake)
	return w, nil
}
