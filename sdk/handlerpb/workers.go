package handlerpb

import "sync"

// Task is what a worker runs.
type Task interface{ Run() }

// maxIdleWorkers bounds the workers that are kept for the next task.
const maxIdleWorkers = 256

// Workers are goroutines that are used again, so that a task finds a stack that
// has grown already. The one that was idle for the shortest time goes first.
// There is no bound on tasks: whoever hands them over has one.
type Workers struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	idle   []chan Task // each of capacity 1, of a worker that waits
	closed bool
}

// Do runs t in a worker.
func (p *Workers) Do(t Task) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		c <- t
		return
	}
	p.mu.Unlock()
	p.wg.Add(1)
	go p.work(t)
}

// work ends with the task where that ends its goroutine (runtime.Goexit).
func (p *Workers) work(t Task) {
	defer p.wg.Done()
	next := make(chan Task, 1)
	for t != nil {
		t.Run()
		p.mu.Lock()
		if p.closed || len(p.idle) >= maxIdleWorkers {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, next)
		p.mu.Unlock()
		t = <-next
	}
}

// Close ends the idle workers and waits for the others. Nothing may be handed
// over any more.
func (p *Workers) Close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c <- nil
	}
	p.wg.Wait()
}
