package dht

import (
	"context"
	"fmt"
	"time"
)

// watchReady takes back that others can find this node when that is no longer
// known to be so. A publication that is read back says so again.
func (c *core) watchReady(now time.Time) {
	if c.own.ready && c.lost(now) {
		c.own.ready = false
		if c.sched.publish.After(now) && c.own.rec != nil {
			c.sched.publish, c.sched.republish = now, publishFirst
		}
	}
}

// lost tells whether nobody can be expected to find this node: no contact is left,
// the uplink is down, or the record that was read back has expired.
func (c *core) lost(now time.Time) bool {
	if c.table.n == 0 {
		return len(c.cfg.Bootstrap)+len(c.sched.restored) > 0
	}
	if !c.up.down.IsZero() {
		return true
	}
	return c.own.rec != nil && !c.own.until.IsZero() && !now.Before(c.own.until)
}

// foundBack notes that others have r, the own record.
func (c *core) foundBack(r *Record) {
	c.own.ready, c.own.until = true, r.Expires()
}

// setReadyLocked lets those go who wait for the node to be ready. The caller holds mu.
func (d *DHT) setReadyLocked() {
	ready := d.core.own.ready
	switch {
	case ready && !d.isReady:
		close(d.ready)
	case !ready && d.isReady:
		d.ready = make(chan struct{})
	}
	d.isReady = ready
}

// Ready tells whether others can find this node now: its own record was read back
// from another node, has not expired since, and somebody answers; or it is the
// first of its network, or publishes nothing, and has joined.
func (d *DHT) Ready() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.own.ready && !d.core.lost(d.cfg.Now())
}

// WaitReady returns when Ready is true, now or the next time; with ctx's error;
// or with ErrClosed. The last error of publishing, if any, is part of the error.
func (d *DHT) WaitReady(ctx context.Context) error {
	d.mu.Lock()
	ready := d.ready
	d.mu.Unlock()
	var err error
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-d.done:
		err = ErrClosed
	}
	if last := d.Stats().PublishError; last != nil {
		return fmt.Errorf("dht: not ready: %w: %w", err, last)
	}
	return fmt.Errorf("dht: not ready: %w", err)
}
