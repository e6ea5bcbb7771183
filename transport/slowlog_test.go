package transport

import (
	"context"
	"log/slog"
	"testing"
)

// lookingLog is a log that looks at its endpoint while it writes a line.
type lookingLog struct {
	e    *Endpoint
	free chan bool
}

func (l *lookingLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *lookingLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lookingLog) WithGroup(string) slog.Handler            { return l }
func (l *lookingLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "session ended" {
		return nil
	}
	free := false
	for range 1000 { // others may hold it for a moment
		if free = l.e.mu.TryLock(); free {
			l.e.mu.Unlock()
			break
		}
	}
	select {
	case l.free <- free:
	default:
	}
	return nil
}

// A slow log holds up nobody who wants a session: the readers do.
func TestEndIsLoggedWithoutTheLock(t *testing.T) {
	t.Parallel()
	log := &lookingLog{free: make(chan bool, 1)}
	c := testConfig(t, nil)
	c.Log = slog.New(log)
	e, b := startNode(t, c), startNode(t, testConfig(t, nil))
	log.e = e.Endpoint
	e.to(t, b).fail(ErrPeerClosed)
	if !<-log.free {
		t.Error("the endpoint's lock was held while the log was written")
	}
}
