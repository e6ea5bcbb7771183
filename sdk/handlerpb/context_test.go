package handlerpb

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hook is what OnEnd is given.
type hook struct{ ended atomic.Int32 }

func (h *hook) Ended() { h.ended.Add(1) }

var errCause = errors.New("the cause")

// Whoever waits for the end hears of it, once; and of the first end only.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	var c Context
	c.Start(time.Time{}, true)
	if _, limited := c.Deadline(); limited || c.Err() != nil || c.Cause() != nil || c.Value(0) != nil {
		t.Errorf("%v, %v", c.Err(), c.Cause())
	}
	h, stopped := new(hook), new(hook)
	c.OnEnd(h)
	derived, cancel := context.WithCancel(&c)
	defer cancel()
	stop := c.AfterFunc(stopped.Ended)
	if !stop() || stop() {
		t.Error("stopped not once")
	}
	select {
	case <-c.Done():
		t.Error("before the end")
	default:
	}
	c.End(context.Canceled, errCause)
	c.End(context.DeadlineExceeded, errors.New("another"))
	<-c.Done()
	<-derived.Done() // needs no goroutine: at once
	if c.Err() != context.Canceled || c.Cause() != errCause || derived.Err() != context.Canceled {
		t.Errorf("%v, %v; derived: %v", c.Err(), c.Cause(), derived.Err())
	}
	if h.ended.Load() != 1 || stopped.ended.Load() != 0 {
		t.Errorf("told %d and %d times", h.ended.Load(), stopped.ended.Load())
	}
	late := new(hook)
	c.OnEnd(late)
	told := make(chan struct{})
	if stop := c.AfterFunc(func() { close(told) }); late.ended.Load() != 1 || stop() {
		t.Errorf("after the end: told %d times", late.ended.Load())
	}
	<-told
}

// The cause is Err where there is no other, and Done is closed where nobody had asked.
func TestContextWithoutCause(t *testing.T) {
	t.Parallel()
	var c Context
	c.End(context.Canceled, nil)
	<-c.Done()
	if c.Cause() != context.Canceled {
		t.Error(c.Cause())
	}
}

// What was taken back is not called, and can be given anew.
func TestContextRelease(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		var c Context
		first, second := new(hook), new(hook)
		c.OnEnd(first)
		c.Release()
		want := int32(0)
		if again {
			c.OnEnd(second)
			want = 1
		}
		c.End(context.Canceled, nil)
		c.Release()
		if first.ended.Load() != 0 || second.ended.Load() != want {
			t.Errorf("told %d and %d times", first.ended.Load(), second.ended.Load())
		}
	}
}

// A context that is being derived is locked while its parent may end.
func TestContextAfterFuncOfOneThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Context
		c.End(context.Canceled, nil)
		var derived sync.Mutex
		told := false
		derived.Lock()
		stop := c.AfterFunc(func() { derived.Lock(); told = true; derived.Unlock() })
		derived.Unlock()
		synctest.Wait()
		if !told || stop() {
			t.Errorf("told %t", told)
		}
	})
}

// Whatever is waited with, the end comes at the deadline; where the context is
// not its keeper, from its owner, and only who asks hears of it before.
func TestContextDeadline(t *testing.T) {
	for name, wait := range map[string]func(c *Context, h *hook) (stop func()){
		"nobody": func(c *Context, h *hook) func() { return func() {} },
		"OnEnd":  func(c *Context, h *hook) func() { c.OnEnd(h); return c.Release },
		"Done": func(c *Context, h *hook) func() {
			gone := make(chan struct{})
			done := c.Done()
			go func() {
				select {
				case <-done:
					h.Ended()
				case <-gone:
				}
			}()
			return func() { close(gone) }
		},
		"derived": func(c *Context, h *hook) func() {
			derived, cancel := context.WithTimeout(c, time.Hour)
			stop := context.AfterFunc(derived, h.Ended)
			return func() { stop(); cancel() }
		},
	} {
		for _, timed := range []bool{true, false} {
			for _, passed := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					var c Context
					deadline := time.Now().Add(time.Minute)
					c.Start(deadline, timed)
					if d, limited := c.Deadline(); !limited || !d.Equal(deadline) {
						t.Errorf("deadline %s", d)
					}
					if passed {
						time.Sleep(2 * time.Minute)
					}
					h := new(hook)
					stop := wait(&c, h)
					synctest.Wait()
					if !passed && (h.ended.Load() != 0 || c.Err() != nil) {
						t.Errorf("%s: before the deadline: told %d times, %v", name, h.ended.Load(), c.Err())
					}
					time.Sleep(time.Until(deadline))
					synctest.Wait()
					told, want := int32(0), context.DeadlineExceeded
					if timed && name != "nobody" {
						told = 1
					}
					if h.ended.Load() != told || c.Err() != want || c.Cause() != want {
						t.Errorf("%s, timed %t, passed %t: told %d times, %v, %v", name, timed, passed, h.ended.Load(), c.Err(), c.Cause())
					}
					stop()
					c.End(context.Canceled, nil)
				})
			}
		}
	}
}

// An end stops the timer, and a later deadline changes nothing.
func TestContextEndsBeforeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Context
		c.Start(time.Now().Add(time.Minute), true)
		h := new(hook)
		c.OnEnd(h)
		<-time.After(time.Second)
		c.End(context.Canceled, errCause)
		if c.timer.Stop() {
			t.Error("the timer runs on")
		}
		time.Sleep(time.Hour)
		if h.ended.Load() != 1 || c.Err() != context.Canceled || c.Cause() != errCause {
			t.Errorf("told %d times, %v, %v", h.ended.Load(), c.Err(), c.Cause())
		}
	})
}

// All that can happen at the same moment.
func TestContextRaces(t *testing.T) {
	t.Parallel()
	for range 200 {
		var c Context
		c.Start(time.Now().Add(time.Hour), true)
		h, late := new(hook), new(hook)
		c.OnEnd(h)
		derived, cancel := context.WithCancel(&c)
		var wg sync.WaitGroup
		for _, f := range []func(){
			func() { c.End(context.Canceled, errCause) },
			func() { c.End(context.DeadlineExceeded, context.DeadlineExceeded) },
			func() { c.Release() },
			func() { <-c.Done() },
			func() { <-derived.Done() },
			func() { context.AfterFunc(&c, late.Ended)() },
		} {
			wg.Go(f)
		}
		wg.Wait()
		if h.ended.Load() > 1 || late.ended.Load() > 1 || (c.Err() == context.Canceled) != (c.Cause() == errCause) {
			t.Fatalf("told %d and %d times, %v, %v", h.ended.Load(), late.ended.Load(), c.Err(), c.Cause())
		}
		cancel()
	}
}

// A context whose owner ends it, a moment late, is over at its deadline for
// whoever asks.
func TestContextOverAtItsDeadline(t *testing.T) {
	t.Parallel()
	for _, timed := range []bool{true, false} {
		var c Context
		c.Start(time.Now().Add(-time.Millisecond), timed)
		if err := c.Err(); err != context.DeadlineExceeded {
			t.Errorf("timed %t: %v", timed, err)
		}
		c.End(context.Canceled, nil)
		if err := c.Err(); err != context.Canceled {
			t.Errorf("timed %t: %v after its end", timed, err)
		}
	}
}
