package node

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// TestClockWarning: one peer that is off is its own affair; most of them are not.
func TestClockWarning(t *testing.T) {
	t.Parallel()
	const far = -20 * time.Minute
	for _, c := range []struct {
		skews []time.Duration // one for each peer
		want  string
	}{
		{nil, ""},
		{[]time.Duration{0}, ""},
		{[]time.Duration{skewWarning}, ""},
		{[]time.Duration{far}, "1 of 1 other nodes differ from this one's by up to 20m0s"},
		{[]time.Duration{far, 0}, ""},
		{[]time.Duration{far, 0, 6 * time.Minute}, "2 of 3 other nodes"},
	} {
		var sessions []control.SessionStatus
		for i, d := range c.skews {
			s := control.SessionStatus{Agent: sdk.AgentID{byte(i + 1)}, ClockSkew: d}
			sessions = append(sessions, s, s) // two sessions are one opinion
		}
		if got := clockWarning(sessions); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.skews, got, c.want)
		}
	}
}
