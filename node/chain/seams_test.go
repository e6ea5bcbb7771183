package chain

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// seams let a test step in where a chain touches its files.
type seams struct {
	mu sync.Mutex
	hooks
}

type hooks struct {
	commit func(*bolt.Tx) error                // instead of (*bolt.Tx).Commit
	write  func(f walFile, b []byte, at int64) // before a write to the log
	sync   func()                              // before a sync of the log
	fail   func(step string) error             // "write" or "sync": the error instead
}

func (s *seams) set(fn func(*hooks)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.hooks)
}

func (s *seams) commitTx(tx *bolt.Tx) error {
	s.mu.Lock()
	commit := s.commit
	s.mu.Unlock()
	if commit == nil {
		return tx.Commit()
	}
	return commit(tx)
}

type seamFile struct {
	walFile
	s *seams
}

func (f *seamFile) step(name string) error {
	f.s.mu.Lock()
	fail := f.s.fail
	f.s.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(name)
}

func (f *seamFile) WriteAt(b []byte, at int64) (int, error) {
	f.s.mu.Lock()
	write := f.s.write
	f.s.mu.Unlock()
	if write != nil {
		write(f.walFile, b, at)
	}
	if err := f.step("write"); err != nil {
		return 0, err
	}
	return f.walFile.WriteAt(b, at)
}

func (f *seamFile) Sync() error {
	f.s.mu.Lock()
	sync := f.s.sync
	f.s.mu.Unlock()
	if sync != nil {
		sync()
	}
	if err := f.step("sync"); err != nil {
		return err
	}
	return f.walFile.Sync()
}

// openSeams opens a chain with seams.
func openSeams(t testing.TB, o Options) (*Chain, *seams) {
	t.Helper()
	s := &seams{}
	o.commitTx, o.wrapWAL = s.commitTx, func(f walFile) walFile { return &seamFile{f, s} }
	return mustOpen(t, o), s
}

// A log that is slow, or looks at the chain, holds up nothing.
func TestStopIsLoggedWithoutTheLock(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	var c *Chain
	looked := false
	o.Log = slog.New(logFunc(func(slog.Record) {
		if c != nil {
			looked = c.mu.TryRLock()
			if looked {
				c.mu.RUnlock()
			}
		}
	}))
	c, _ = openSeams(t, o)
	c.stop(errNotNow)
	if !looked {
		t.Error("the lock was held while the log was written")
	}
}

// logFunc is a log that calls a function.
type logFunc func(slog.Record)

func (f logFunc) Enabled(context.Context, slog.Level) bool      { return true }
func (f logFunc) Handle(_ context.Context, r slog.Record) error { f(r); return nil }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f logFunc) WithGroup(string) slog.Handler                 { return f }
