package handlerpb

import (
	"context"
	"testing"
	"time"
)

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
