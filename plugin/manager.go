package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/plugin/internal/sandbox"
)

// Manager runs the handlers of one directory.
type Manager struct {
	cfg   Config
	ready chan struct{}
	ran   sync.Once

	// Set by Run before the first supervisor.
	spawn    *spawner
	sockets  string        // directory
	starts   chan struct{} // of files
	revivals chan struct{} // starts of processes that died
	litter   chan struct{} // holds one when there may be copies to collect

	// staging is held for reading while a copy is made that no handler's status
	// names yet, for writing while those are removed that nobody names.
	staging sync.RWMutex

	mu    sync.Mutex
	slots []*slot // sorted by file
}

// New checks the configuration. It starts nothing. A missing directory is an error.
func New(c Config) (*Manager, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	// Handlers have other working directories than the node.
	for _, dir := range []*string{&c.Dir, &c.StateDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("plugin: %w", err)
		}
		*dir = abs
	}
	return &Manager{cfg: c, ready: make(chan struct{}), litter: make(chan struct{}, 1)}, nil
}

// Ready is closed when every binary of the directory is up or rejected, and in
// any case when Run returns.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Status tells of every file of the directory, sorted by name.
func (m *Manager) Status() []HandlerStatus {
	slots := m.all()
	out := make([]HandlerStatus, len(slots))
	for i, s := range slots {
		out[i] = s.h.status()
	}
	return out
}

func (m *Manager) all() []*slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.slots)
}

// Restart starts the handlers of a file or DNA anew from what lies in the
// directory, and forgets what is held against it: crashes, quarantine. The new
// process takes over when it is ready, as in a swap. It returns when that has
// come to an end.
//
// Errors: an *UnknownError where there is no such handler; why the binary was
// not taken; ctx's.
func (m *Manager) Restart(ctx context.Context, name string) error {
	s, err := m.named(name)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	s.sup.inbox.tell(func(mail *mail) { mail.restarts = append(mail.restarts, done) })
	select {
	case err := <-done:
		return err
	case <-s.ended:
		select {
		case err := <-done:
			return err
		default:
			return fmt.Errorf("handler %s: it is being stopped", name)
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// UnknownError says that no file or DNA has a name.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no handler %q: neither a file of the plugin directory nor a DNA; there are %s", e.Name, some(e.Known))
}

// named finds a supervised file by its name, or by its DNA's.
func (m *Manager) named(name string) (*slot, error) {
	unknown := &UnknownError{Name: name}
	var byDNA *slot
	for _, s := range m.all() {
		if s.sup == nil {
			continue
		}
		unknown.Known = append(unknown.Known, s.h.File())
		if s.h.File() == name {
			return s, nil
		}
		if s.h.Description().Name == name && (byDNA == nil || s.h.stateNow() != StateRejected) {
			byDNA = s
		}
	}
	if byDNA == nil {
		return nil, unknown
	}
	return byDNA, nil
}

// Run starts the handlers, keeps them running and, when ctx has ended, lets
// them finish their calls. It returns when every process, goroutine and socket
// of theirs is gone. It may be called once.
func (m *Manager) Run(ctx context.Context) (err error) {
	first := false
	m.ran.Do(func() { first = true })
	if !first {
		return errors.New("plugin: Manager.Run was called before")
	}
	var done sync.Once
	ready := func() { done.Do(func() { close(m.ready) }) }
	defer ready()
	for _, dir := range []string{"plugins", "work", "rollout"} {
		if err := os.MkdirAll(filepath.Join(m.cfg.StateDir, dir), 0o700); err != nil {
			return fmt.Errorf("plugin: state directory: %w", err)
		}
	}
	m.tidy()
	if m.sockets, err = sockets(m.cfg.StateDir); err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(m.sockets)) }()
	m.spawn, m.starts, m.revivals = newSpawner(), make(chan struct{}, m.cfg.StartParallel), make(chan struct{}, m.cfg.StartParallel)
	stop := make(chan struct{})
	var spawning, starting sync.WaitGroup
	spawning.Go(func() { m.spawn.run(stop) })
	spawning.Go(func() { m.collects(stop) })
	m.cfg.confine = newConfiner(&m.cfg, func(cmd *exec.Cmd) error { return m.spawn.do(func() error { return sandbox.Start(cmd) }) })
	d := &directory{m: m, settling: newSettling(m.cfg.settle, absentFactor*m.cfg.settle), slots: map[string]*slot{},
		initial: map[string]bool{}, starting: &starting, ended: make(chan struct{}, 1)}
	d.begun = func() { d.running.Go(func() { starting.Wait(); ready(); m.collect() }) }
	d.patience = time.Now().Add(readyPatience * m.cfg.settle)
	err = d.run(ctx)
	d.running.Wait()
	close(stop) // no child is left that would die with the thread
	spawning.Wait()
	return err
}

// tidy removes half-made copies of a node that was killed, and warns of a
// directory that others may put handlers into.
func (m *Manager) tidy() {
	for _, pattern := range []string{"plugins/.stage-*", "rollout/.rollout-*"} {
		half, _ := filepath.Glob(filepath.Join(m.cfg.StateDir, pattern))
		for _, f := range half {
			_ = os.Remove(f)
		}
	}
	if info, err := os.Stat(m.cfg.Dir); err == nil && info.Mode()&0o002 != 0 {
		m.cfg.Log.Warn("every user of this machine may put handlers into the plugin directory", "directory", m.cfg.Dir, "do", "chmod o-w")
	}
}

// collect has the copies of binaries removed that no handler's status names any
// more. It does not wait: a copy that is being made may be one of a slow disk.
func (m *Manager) collect() {
	select {
	case m.litter <- struct{}{}:
	default:
	}
}

// collects does so until stop is closed.
func (m *Manager) collects(stop <-chan struct{}) {
	for {
		select {
		case <-m.litter:
			m.removeCopies()
		case <-stop:
			return
		}
	}
}

func (m *Manager) removeCopies() {
	m.staging.Lock()
	defer m.staging.Unlock()
	needed := map[string]bool{}
	for _, s := range m.all() {
		for _, sum := range s.h.binaries() {
			needed[sum] = true
		}
	}
	dir := filepath.Join(m.cfg.StateDir, "plugins")
	entries, err := os.ReadDir(dir)
	if err != nil {
		m.cfg.Log.Debug("copies of binaries stay", "error", err)
	}
	for _, e := range entries {
		if isSum(e.Name()) && !needed[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				m.cfg.Log.Debug("a binary's copy stays", "error", err)
			}
		}
	}
}
