package plugin

import (
	"context"
	"sync"

	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// callStream carries one call at a time. Its answers may be sent by several
// goroutines, one after the other.
type callStream struct {
	*handlerpb.NodeStream
	cancel context.CancelFunc
	sendMu sync.Mutex
}

func (s *callStream) answer(a *handlerpb.Answer) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.Answer(a)
}

// maxIdleStreams bounds the streams that wait for a call; a stream takes a
// goroutine in the handler. More are opened under load and closed after it.
const maxIdleStreams = 64

// pool holds the idle call streams of one process, the last used on top: the
// ones below are not touched under light load.
type pool struct {
	open func() (*callStream, error)

	mu   sync.Mutex
	idle []*callStream
	live int // idle and in use
}

func (p *pool) get() (*callStream, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return s, nil
	}
	p.live++
	p.mu.Unlock()
	s, err := p.open()
	if err != nil {
		p.mu.Lock()
		p.live--
		p.mu.Unlock()
	}
	return s, err
}

// put takes a stream back. A stream that is not clean is closed.
func (p *pool) put(s *callStream, clean bool) {
	p.mu.Lock()
	if clean && len(p.idle) < maxIdleStreams {
		p.idle = append(p.idle, s)
		p.mu.Unlock()
		return
	}
	p.live--
	p.mu.Unlock()
	s.cancel()
}

func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}
