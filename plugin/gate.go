package plugin

import (
	"container/list"
	"context"
	"sync"
)

// gate lets at most max calls run and at most queue wait, first come first served.
type gate struct {
	max, queue int

	mu      sync.Mutex
	running int
	waiting list.List     // of chan struct{}, closed when the slot is theirs
	idle    chan struct{} // closed when running falls to 0 while somebody waits for that
}

// enter takes a slot. It fails with full where the queue is full, and with
// ctx's error.
func (g *gate) enter(ctx context.Context) (full bool, err error) {
	g.mu.Lock()
	if g.running < g.max {
		g.running++
		g.mu.Unlock()
		return false, nil
	}
	if g.waiting.Len() >= g.queue {
		g.mu.Unlock()
		return true, nil
	}
	turn := make(chan struct{})
	e := g.waiting.PushBack(turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return false, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-turn: // the slot came at the same moment: pass it on
		g.leaveLocked()
	default:
		g.waiting.Remove(e)
	}
	return false, context.Cause(ctx)
}

// try takes a slot if one is free.
func (g *gate) try() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running >= g.max {
		return false
	}
	g.running++
	return true
}

// leave gives the slot back.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked()
}

func (g *gate) leaveLocked() {
	if e := g.waiting.Front(); e != nil {
		close(g.waiting.Remove(e).(chan struct{}))
		return
	}
	g.running--
	if g.running == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// load gives the calls that run and that wait.
func (g *gate) load() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, g.waiting.Len()
}

// drained is closed when no call runs. New ones may still enter.
func (g *gate) drained() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle != nil {
		return g.idle
	}
	c := make(chan struct{})
	if g.running == 0 {
		close(c)
		return c
	}
	g.idle = c
	return c
}
