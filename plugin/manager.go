package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/parley-p2p/parley/plugin/internal/sandbox"
)

// Manager runs the handlers of one directory.
type Manager struct {
	cfg   Config
	ready chan struct{}
	ran   sync.Once

	mu       sync.Mutex
	handlers []*Handler // sorted by file
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
	return &Manager{cfg: c, ready: make(chan struct{})}, nil
}

// Ready is closed when every binary of the directory is up or rejected, and in
// any case when Run returns.
func (m *Manager) Ready() <-chan struct{} { return m.ready }

// Status tells of every file of the directory, sorted by name.
func (m *Manager) Status() []HandlerStatus {
	m.mu.Lock()
	handlers := m.handlers
	m.mu.Unlock()
	out := make([]HandlerStatus, len(handlers))
	for i, h := range handlers {
		out[i] = h.status()
	}
	return out
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
	for _, dir := range []string{"plugins", "work"} {
		if err := os.MkdirAll(filepath.Join(m.cfg.StateDir, dir), 0o700); err != nil {
			return fmt.Errorf("plugin: state directory: %w", err)
		}
	}
	m.tidy()
	dir, err := sockets(m.cfg.StateDir)
	if err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files, err := scan(m.cfg.Dir)
	if err != nil {
		return fmt.Errorf("plugin: %w", err)
	}
	m.supervise(ctx, dir, files, ready)
	<-ctx.Done() // with no handler left, Status still tells why
	return nil
}

// tidy removes half-made copies of a node that was killed, and warns of a
// directory that others may put handlers into.
func (m *Manager) tidy() {
	half, _ := filepath.Glob(filepath.Join(m.cfg.StateDir, "plugins", ".stage-*"))
	for _, f := range half {
		_ = os.Remove(f)
	}
	if info, err := os.Stat(m.cfg.Dir); err == nil && info.Mode()&0o002 != 0 {
		m.cfg.Log.Warn("every user of this machine may put handlers into the plugin directory", "directory", m.cfg.Dir, "do", "chmod o-w")
	}
}

// supervise runs a supervisor for each file and returns when all have ended.
func (m *Manager) supervise(ctx context.Context, sockets string, files []found, ready func()) {
	spawn := newSpawner()
	stop := make(chan struct{})
	var spawning, running, starting sync.WaitGroup
	spawning.Go(func() { spawn.run(stop) })
	m.cfg.confine = newConfiner(&m.cfg, func(cmd *exec.Cmd) error { return spawn.do(func() error { return sandbox.Start(cmd) }) })
	starts := make(chan struct{}, m.cfg.StartParallel)
	all := make([]*Handler, len(files))
	for i, f := range files {
		all[i] = newHandler(f.name, &m.cfg)
	}
	m.mu.Lock()
	m.handlers = all
	m.mu.Unlock()
	for i, f := range files {
		log := m.cfg.Log.With("handler", f.name)
		if f.skip != nil {
			all[i].set(StateSkipped, nil, f.skip)
			log.Warn("file in the plugin directory is not started", "reason", f.skip)
			continue
		}
		s := &supervisor{h: all[i], cfg: &m.cfg, log: log, spawn: spawn, sockets: sockets, starts: starts, policy: m.cfg.policy()}
		starting.Add(1)
		running.Go(func() { s.run(ctx, starting.Done) })
	}
	running.Go(func() { starting.Wait(); ready() })
	running.Wait()
	close(stop) // no child is left that would die with the thread
	spawning.Wait()
}
