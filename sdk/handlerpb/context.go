package handlerpb

import (
	"context"
	"sync"
	"time"
)

// Context is the context of one call or callback. It belongs to whoever runs
// that and knows when it ends, so it hears of no parent: End ends it, and every
// one has to be ended. Most are never waited on, and such a one costs neither a
// channel nor a timer.
type Context struct {
	deadline time.Time

	mu    sync.Mutex
	done  chan struct{} // made when somebody asks for it
	timer *time.Timer   // with done, where there is a deadline
	after []*func()     // of contexts derived from this one
	err   error
	cause error
}

var _ context.Context = (*Context)(nil)

// Start sets the deadline; the zero time is none. It comes before any other use.
func (c *Context) Start(deadline time.Time) { c.deadline = deadline }

// End ends the context with context.Canceled or context.DeadlineExceeded, and
// what brought that about. The first end counts.
func (c *Context) End(err, cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err, c.cause = err, cause
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range after {
		(*f)()
	}
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		switch {
		case c.err != nil:
			close(c.done)
		case !c.deadline.IsZero():
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.End(context.DeadlineExceeded, context.DeadlineExceeded) })
		}
	}
	return c.done
}

// Err implements context.Context. While nobody has asked for Done, no timer
// runs, so the clock is asked.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.done == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return c.err
}

// Cause is what End was given, or Err.
func (c *Context) Cause() error {
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	if cause != nil {
		return cause
	}
	return c.Err()
}

// Value implements context.Context: there are none.
func (c *Context) Value(any) any { return nil }

// AfterFunc is what package context asks of a context of another package, so
// that one derived from it needs no goroutine.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.Done() // makes the timer
	c.mu.Lock()
	ended := c.err != nil
	if !ended {
		c.after = append(c.after, &f)
	}
	c.mu.Unlock()
	if ended {
		f()
		return func() bool { return false }
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, g := range c.after {
			if g == &f {
				c.after = append(c.after[:i], c.after[i+1:]...)
				return true
			}
		}
		return false
	}
}
