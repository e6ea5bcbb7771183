package dht

import (
	"context"
	"fmt"
	"time"
)

// WithdrawnError says that an agent has taken its address record back: its node
// was stopped, or has no address any more. It is an ErrNotFound. What older
// records say is no way to the agent.
type WithdrawnError struct {
	Seq   uint64    // of the tombstone; a record with a higher one is newer
	Since time.Time // by the agent's clock
}

func (e *WithdrawnError) Error() string {
	return "the agent withdrew its address record at " + e.Since.UTC().Format(time.RFC3339)
}

func (e *WithdrawnError) Unwrap() error { return ErrNotFound }

func withdrawnError(r *Record) error { return &WithdrawnError{Seq: r.Seq, Since: r.IssuedAt} }

// Withdrawn tells whether the record is a tombstone: its agent can't be reached.
func (r *Record) Withdrawn() bool { return r.tombstone() }

// Withdraw publishes that this node is gone, and returns when all who should know
// do, or ctx has ended: the tombstones that are on their way by then may still
// arrive. It is called once, before Run ends, and does nothing where there is no
// record or nobody to be told. The error wraps
// ErrNoAnswer, ErrClosed or ctx's.
func (d *DHT) Withdraw(ctx context.Context) (holders int, err error) {
	const what = "withdrawal"
	select {
	case <-d.done:
		return 0, fmt.Errorf("dht: %s: %w", what, ErrClosed)
	default:
	}
	d.mu.Lock()
	c, now := d.core, d.cfg.Now()
	if !d.running || c.own.rec == nil || c.own.rec.tombstone() {
		c.own.gone = true
		d.mu.Unlock()
		return 0, nil
	}
	c.own.gone = true
	c.setAddrs(now, nil) // OwnRecord is the tombstone from here on
	if c.table.n == 0 {
		d.mu.Unlock()
		return 0, nil
	}
	c.sched.publish = now.Add(c.cfg.TTL) // it is done here
	o := c.startOp(now, &op{kind: opPublish}, c.id)
	w := &waiter{changed: make(chan struct{}, 1), done: make(chan struct{})}
	d.waiters[o] = w
	signal(d.wake)
	d.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-d.done:
		err = ErrClosed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waiters, o)
	if err != nil {
		return o.holders, fmt.Errorf("dht: %s: %w, %d holders know", what, err, o.holders)
	}
	if err := o.publishError(); err != nil {
		return o.holders, fmt.Errorf("dht: %s: %w", what, err)
	}
	return o.holders, nil
}

// next is the own record as it should be now, but for its seq and time: without
// addresses a tombstone, where there has been a record to take back; false if
// there is nothing to publish.
func (c *core) next() (Record, bool) {
	r := Record{Key: c.self, Flags: c.proof.flag(), TTL: c.cfg.TTL, Addrs: c.own.addrs}
	if len(r.Addrs) > 0 {
		return r, true
	}
	r.Flags |= FlagTombstone
	return r, c.own.rec != nil
}
