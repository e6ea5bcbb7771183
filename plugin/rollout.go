package plugin

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The numbers of a new binary's probation. docs/handlers.md explains them.
const (
	probationTime    = 30 * time.Second
	probationCalls   = 20
	probationCrashes = 2
	maxQuarantined   = 64 // remembered for each file
)

// rollout decides which binary of a file runs: the one that lies in the
// directory, or the last one that was good. Binaries are named by their SHA-256.
// It is pure: its methods take the time.
type rollout struct {
	active string // takes the calls, or is to be started again
	good   string // the last that stood its probation, or had nothing to go back to
	bad    map[string]quarantined

	since   time.Time // active has been active for so long
	calls   uint64    // that had ended by then
	crashes int       // of active, in its probation
}

// quarantined is a binary that does not run again by itself.
type quarantined struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// refused says why a binary may not run; nil if it may.
func (r *rollout) refused(sum string) error {
	if q, ok := r.bad[sum]; ok {
		return &quarantineError{q}
	}
	return nil
}

// quarantineError is the reason for which a binary is not started.
type quarantineError struct{ quarantined }

func (e *quarantineError) Error() string {
	return fmt.Sprintf("quarantined since %s: %s (parley plugin restart lets it try again)",
		e.Since.Format(time.RFC3339), e.Reason)
}

// reject puts a binary into quarantine.
func (r *rollout) reject(now time.Time, sum string, reason error) {
	if r.bad == nil {
		r.bad = map[string]quarantined{}
	}
	r.bad[sum] = quarantined{Reason: reason.Error(), Since: now}
	for len(r.bad) > maxQuarantined {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(r.bad)), func(a, b string) int {
			return r.bad[a].Since.Compare(r.bad[b].Since)
		})
		delete(r.bad, oldest)
	}
}

// forgive takes a binary out of quarantine.
func (r *rollout) forgive(sum string) { delete(r.bad, sum) }

// activate takes note of a binary that takes the calls from now on. calls is
// how many had ended.
func (r *rollout) activate(now time.Time, sum string, calls uint64) {
	if sum == r.active {
		return // started again
	}
	r.active, r.since, r.calls, r.crashes = sum, now, calls, 0
	if r.good == "" {
		r.good = sum // nothing to go back to
	}
}

// onProbation tells whether a crash would count against the active binary, and
// if so, when it may be over.
func (r *rollout) onProbation(now time.Time, calls uint64) (until time.Time, on bool) {
	if r.active == r.good {
		return time.Time{}, false
	}
	until = r.since.Add(probationTime)
	return until, now.Before(until) || calls-r.calls < probationCalls
}

// passed ends the probation if it is over.
func (r *rollout) passed(now time.Time, calls uint64) bool {
	if _, on := r.onProbation(now, calls); on || r.active == r.good {
		return false
	}
	r.good = r.active
	return true
}

// crashed takes note of the active binary's death. It gives the binary to go
// back to, or "" where it is to be started again.
func (r *rollout) crashed(now time.Time, calls uint64, cause error) (back string) {
	if r.passed(now, calls) || r.active == r.good {
		return ""
	}
	if r.crashes++; r.crashes < probationCrashes {
		return ""
	}
	r.reject(now, r.active, fmt.Errorf("it died %d times in its probation, the last time: %w", r.crashes, cause))
	return r.good
}
