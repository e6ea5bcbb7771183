package node

import (
	"context"
	"sync"
)

// tasks owns the node's goroutines that serve no one caller.
type tasks struct {
	mu      sync.Mutex // guards what follows
	ctx     context.Context
	stopped bool
	wg      sync.WaitGroup
}

// open lets tasks start; their context ends with ctx.
func (t *tasks) open(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx = ctx
}

// start runs f in a goroutine; false if the node does not run.
func (t *tasks) start(f func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx == nil || t.stopped {
		return false
	}
	ctx := t.ctx
	t.wg.Go(func() { f(ctx) })
	return true
}

// wait lets no further task start and waits for those that run.
func (t *tasks) wait() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.wg.Wait()
}

// part is one part of a running node: its loop, and how to stop it.
type part struct {
	name   string
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // written before ended is closed
}

// startPart runs loop. If it ends before it is stopped, broke is told.
func startPart(name string, loop func(context.Context) error, broke func(name string, err error)) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = loop(ctx)
		if ctx.Err() == nil {
			broke(name, p.err)
		}
	}()
	return p
}

// stop ends the loop and waits for it.
func (p *part) stop() error {
	p.cancel()
	<-p.ended
	return p.err
}
