package plugin

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// State is where the handler of one file stands.
type State string

const (
	StateStarting State = "starting" // staged and being started
	StateRunning  State = "running"  // takes calls
	StateBackoff  State = "backoff"  // its process died; it is started again soon
	StateFailed   State = "failed"   // it died too often; it stays down
	StateDraining State = "draining" // finishes its calls
	StateStopped  State = "stopped"  // its process is gone
	StateRejected State = "rejected" // it is not, or may not be, a handler: see LastError
	StateSkipped  State = "skipped"  // not started at all: see LastError
)

// HandlerStatus is what Status says of one file.
type HandlerStatus struct {
	File      string
	DNA       string // name of Describe; empty before
	Integrity string
	State     State
	PID       int // 0 where no process runs
	SHA256    string
	Since     time.Time // of State
	Started   time.Time // of the present process
	Restarts  int
	LastError string // why it was rejected, skipped or died the last time
	InFlight  int    // calls that run
	Queued    int    // calls that wait
	Calls     uint64 // calls that ended, ever
	GivenUp   int    // calls whose caller gave up, and that still run in the process

	Generation  int       // processes that took calls, this one included
	Probation   time.Time // not before then is the binary beyond the way back; zero: it is
	Good        string    // SHA-256 of the binary to go back to
	Trying      string    // SHA-256 of a binary that is being started beside this one
	Refused     string    // why what lies in the directory does not run; empty if it does
	Draining    []Draining
	Quarantined []Quarantined // oldest first

	Sandbox []Layer
}

// Draining is a process whose place another one has taken.
type Draining struct {
	PID    int
	SHA256 string
	Calls  int       // that still run
	Until  time.Time // then they are cut off
}

// Quarantined is a binary that is not started again by itself.
type Quarantined struct {
	SHA256 string
	Reason string
	Since  time.Time
}

// rolls is what a handler's status shows of its rollout; guarded by its mu.
type rolls struct {
	sum, good, trying string
	generation        int
	probation         time.Time
	refused           error
	taken             bool // refused only because another handler of its DNA runs
	draining          []drainingOne
	quarantined       []Quarantined
}

type drainingOne struct {
	p     *process
	sum   string
	until time.Time
}

// tries notes that a binary is being started.
func (h *Handler) tries(sum string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rolls.trying = sum; h.rolls.generation == 0 {
		h.rolls.sum = sum
	}
}

// tried notes why what lies in the directory does not run; nil if it does.
func (h *Handler) tried(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rolls.trying, h.rolls.refused, h.rolls.taken = "", err, errors.Is(err, ErrTaken)
}

// mayTryAgain tells whether the file is refused for a reason that may be gone
// without a change of it.
func (h *Handler) mayTryAgain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rolls.taken || errors.Is(h.rolls.refused, errNotPinned)
}

// backoff notes when the process is started again.
func (h *Handler) backoff(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restarts++
	h.nextStart = at
}

// show notes how far s's rollout is.
func (h *Handler) show(s *supervisor) {
	until, on := s.roll.onProbation(time.Now(), h.calls.Load())
	if !on {
		until = time.Time{}
	}
	var draining []drainingOne
	for g := range s.draining {
		draining = append(draining, drainingOne{p: g.p, sum: g.sum, until: g.until})
	}
	slices.SortFunc(draining, func(a, b drainingOne) int { return a.until.Compare(b.until) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rolls.probation, h.rolls.draining, h.rolls.good = until, draining, s.roll.good
}

// setQuarantined notes which binaries are not started again.
func (h *Handler) setQuarantined(bad map[string]quarantined) {
	list := make([]Quarantined, 0, len(bad))
	for _, sum := range slices.Sorted(maps.Keys(bad)) {
		list = append(list, Quarantined{SHA256: sum, Reason: bad[sum].Reason, Since: bad[sum].Since})
	}
	slices.SortStableFunc(list, func(a, b Quarantined) int { return a.Since.Compare(b.Since) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rolls.quarantined = list
}

// binaries are those of which the handler needs the copies.
func (h *Handler) binaries() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []string{h.rolls.sum, h.rolls.good, h.rolls.trying}
	for _, d := range h.rolls.draining {
		list = append(list, d.sum)
	}
	return list
}

func (h *Handler) status() HandlerStatus {
	running, waiting := h.gate.load()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := HandlerStatus{File: h.file, DNA: h.desc.Name, Integrity: h.desc.Integrity, State: h.state, SHA256: h.rolls.sum,
		Since: h.since, Restarts: h.restarts, InFlight: running, Queued: waiting, Calls: h.calls.Load(),
		Generation: h.rolls.generation, Probation: h.rolls.probation, Good: h.rolls.good, Trying: h.rolls.trying,
		Quarantined: h.rolls.quarantined}
	if h.lastErr != nil {
		s.LastError = h.lastErr.Error()
	}
	if h.rolls.refused != nil {
		s.Refused = h.rolls.refused.Error()
	}
	if h.current != nil {
		s.PID, s.Started, s.GivenUp = h.current.run.pid(), h.current.started, h.current.stream.abandoned()
	}
	for _, d := range h.rolls.draining {
		calls, _ := d.p.calls.load()
		s.Draining = append(s.Draining, Draining{PID: d.p.run.pid(), SHA256: d.sum, Calls: calls, Until: d.until})
	}
	if h.cfg.confine != nil {
		s.Sandbox = h.cfg.confine.layers(h.file)
	}
	return s
}
