package transport

import "sync"

// workers are the goroutines that run handlers. One that has served a request
// goes on with the next one of its session, and then waits for another
// session's, so that the stack that a handler has grown is not grown anew for
// each request. There are as many as there are handlers under way (MaxRequestsTotal at
// most); idle ones end within two ticks.
//
// A session's complete requests wait in serving.ready. Whoever makes that list
// non-empty, or takes from it and leaves something, summons one worker, if none
// is on its way (serving.summoned). So no request waits for a handler that
// blocks, and handlers that return at once are run by few workers without a change of
// goroutines for each request.
type workers struct {
	ep *Endpoint

	mu     sync.Mutex // guards:
	idle   []*worker  // the last to come is the first to go
	low    int        // the fewest that were idle since the last tick
	closed bool
}

// maxIdleWorkers bounds the workers that wait.
const maxIdleWorkers = 1024

// worker is one goroutine. The endpoint waits for it.
type worker struct {
	next chan *Session // capacity 1; nil means to end
}

// give makes a worker serve what s has ready. The caller is a goroutine that the
// endpoint waits for.
func (p *workers) give(s *Session) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.low = min(p.low, n-1)
		p.mu.Unlock()
		w.next <- s
		return
	}
	p.mu.Unlock()
	p.ep.wg.Add(1)
	go p.run(&worker{next: make(chan *Session, 1)}, s)
}

func (p *workers) run(w *worker, s *Session) {
	defer p.ep.wg.Done()
	for s != nil {
		s.serveReady()
		if !p.park(w) {
			return
		}
		s = <-w.next
	}
}

// park makes w idle, or reports that it is to end.
func (p *workers) park(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdleWorkers {
		return false
	}
	p.idle = append(p.idle, w)
	return true
}

// tick ends as many as were idle all the time since the last one.
func (p *workers) tick() {
	p.mu.Lock()
	n := p.low
	old := append([]*worker(nil), p.idle[:n]...)
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.low = rest
	p.mu.Unlock()
	for _, w := range old {
		w.next <- nil
	}
}

// close ends the idle ones, and the others when they have served.
func (p *workers) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.low, p.closed = nil, 0, true
	p.mu.Unlock()
	for _, w := range idle {
		w.next <- nil
	}
}

// readyList is a FIFO of requests.
type readyList struct{ head, tail *incoming }

func (l *readyList) push(in *incoming) {
	if l.tail == nil {
		l.head = in
	} else {
		l.tail.next = in
	}
	l.tail = in
}

func (l *readyList) pop() *incoming {
	in := l.head
	if in == nil {
		return nil
	}
	l.head, in.next = in.next, nil
	if l.head == nil {
		l.tail = nil
	}
	return in
}
