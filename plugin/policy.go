package plugin

import (
	"math/rand/v2"
	"time"
)

// The policy's numbers. docs/handlers.md explains them.
const (
	backoffFirst   = 100 * time.Millisecond
	backoffMax     = 30 * time.Second
	backoffJitter  = 0.2              // of the delay, either way
	healthyAfter   = 60 * time.Second // a process that lived so long resets the back-off
	crashLoopCount = 5
	crashLoopSpan  = 10 * time.Minute
	probeTimeout   = time.Second
	defaultProbe   = 5 * time.Second // between health probes
	probeMisses    = 3
	killWatchdog   = 2 * time.Second
	exitGrace      = 5 * time.Second // from the end of the connection to that of the process
)

// restartPolicy decides when a process that died is started again. It is pure:
// its methods take the time.
type restartPolicy struct {
	jitter  func() float64 // in [-1, 1)
	delay   time.Duration  // the last one, without jitter; 0 before the first
	crashes []time.Time    // within crashLoopSpan, at most crashLoopCount
}

func newRestartPolicy() *restartPolicy {
	return &restartPolicy{jitter: func() float64 { return 2*rand.Float64() - 1 }}
}

// died takes note of a death at now, of a process that lived since started. It
// gives the delay until the next start, or failed if there is to be none.
func (p *restartPolicy) died(now, started time.Time) (delay time.Duration, failed bool) {
	if now.Sub(started) >= healthyAfter {
		p.delay = 0
	}
	keep := p.crashes[:0]
	for _, t := range p.crashes {
		if now.Sub(t) < crashLoopSpan {
			keep = append(keep, t)
		}
	}
	p.crashes = append(keep, now)
	if len(p.crashes) >= crashLoopCount {
		return 0, true
	}
	if p.delay == 0 {
		p.delay = backoffFirst
	} else {
		p.delay = min(2*p.delay, backoffMax)
	}
	return p.delay + time.Duration(p.jitter()*backoffJitter*float64(p.delay)), false
}

// probeCounter counts health probes that went without an answer.
type probeCounter struct{ misses int }

// result takes note of a probe and tells whether the process is to be killed.
func (c *probeCounter) result(ok bool) (kill bool) {
	if ok {
		c.misses = 0
		return false
	}
	c.misses++
	return c.misses >= probeMisses
}
