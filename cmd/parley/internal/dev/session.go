package dev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// maxLines bounds the lines of a script that wait.
const maxLines = 64

// session is one run. What is not above "the loop's" does not change.
type session struct {
	o             Options
	b             *builder
	w             *watcher
	out           *output
	plugins, data string
	nodeNames     []string
	prefix        map[string]string
	wg            sync.WaitGroup

	builds  chan built
	idle    chan struct{} // holds one when work has ended
	started chan startedNetwork
	events  chan event
	broke   chan *member
	results chan bool // whether a call went well

	// the loop's
	working   bool
	cancel    context.CancelFunc // of the work
	next      time.Time          // of a save that is not built yet
	listSince time.Time          // of a build after which the sources were not listed yet
	starting  bool
	net       *network
	upAt      time.Time // when net was ready
	desc      sdk.Description
	placed    built // what lies in the plugin directory
	failed    bool  // the last build did
	told      map[string]string
	removed   map[string]bool // nodes that let the handler go; nil: replace is not under way
	lines     []string
	eof       bool
	calls     int // that run
	bad       int // lines that failed
}

type startedNetwork struct {
	net *network
	err error
}

// event is what happened to a node's handler.
type event struct {
	m *member
	control.PluginEvent
}

func newSession(o Options, b *builder, w *watcher, out *output, plugins, data string) *session {
	list := names[:o.Nodes]
	return &session{o: o, b: b, w: w, out: out, plugins: plugins, data: data, nodeNames: list,
		prefix: prefixes(list, o.Colour), builds: make(chan built), idle: make(chan struct{}, 1),
		started: make(chan startedNetwork, 1), events: make(chan event), broke: make(chan *member, len(list)),
		results: make(chan bool, maxLines), told: map[string]string{}}
}

// run is the loop. It returns when all of it has ended.
func (s *session) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	s.wg.Go(func() { s.w.run(ctx) })
	defer func() {
		cancel()
		if s.starting {
			s.net = (<-s.started).net
		}
		if s.net != nil {
			err = errors.Join(err, s.net.stop())
		}
		s.wg.Wait()
	}()
	lines := s.read(ctx)
	s.next = time.Now()
	s.out.tell("building %s ...", s.o.Package)
	s.build(ctx)
	for {
		in := lines
		if len(s.lines) >= maxLines {
			in = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case at := <-s.w.saves:
			s.saved(ctx, at)
		case r := <-s.builds:
			if err := s.built(ctx, r); err != nil {
				return err
			}
		case <-s.idle:
			s.working = false
			if !s.next.IsZero() {
				s.build(ctx)
			}
		case r := <-s.started:
			s.starting = false
			if r.err != nil {
				return r.err
			}
			s.up(ctx, r.net)
		case e := <-s.events:
			s.happened(ctx, e)
		case m := <-s.broke:
			return fmt.Errorf("%s: %w", m.name, errors.Join(errors.New("its node ended"), m.err))
		case ok := <-s.results:
			s.calls--
			s.count(ok)
		case line, ok := <-in:
			if s.eof = !ok; s.eof {
				lines = nil
			} else {
				s.lines = append(s.lines, line)
			}
		}
		s.rest(ctx)
		if over, err := s.serve(ctx); over {
			return err
		}
	}
}

// read reads lines. Its goroutine is the one that is not waited for: nothing can
// end a read of a terminal.
func (s *session) read(ctx context.Context) <-chan string {
	lines := make(chan string)
	if s.o.Input == Nothing {
		return nil
	}
	go func() {
		defer close(lines)
		r := bufio.NewScanner(s.o.In)
		r.Buffer(nil, 16<<20)
		for r.Scan() {
			select {
			case lines <- r.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// saved has what was saved built. Work that is under way is of what is older.
func (s *session) saved(ctx context.Context, at time.Time) {
	if s.next.IsZero() {
		s.next = at
	}
	if s.working {
		s.cancel()
		return
	}
	s.build(ctx)
}

// work does one thing in the background, of which there is never a second one.
func (s *session) work(outer context.Context, do func(context.Context)) {
	ctx, cancel := context.WithCancel(outer)
	s.working, s.cancel = true, cancel
	s.wg.Go(func() {
		do(ctx)
		cancel()
		s.idle <- struct{}{} // has room
	})
}

func (s *session) build(ctx context.Context) {
	at, first, since := s.next, s.net == nil && !s.starting, time.Now()
	s.next, s.listSince = time.Time{}, since
	s.work(ctx, func(ctx context.Context) {
		r := s.b.build(ctx)
		r.saved = at
		if r.err == nil && first {
			r.desc, r.err = s.b.describe(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case s.builds <- r:
		case <-ctx.Done():
		}
	})
}

// list reads which files count from now on. It is done when there is nothing
// better to do: it takes as long as a handler's start.
func (s *session) list(ctx context.Context) {
	since := s.listSince
	s.listSince = time.Time{}
	s.work(ctx, func(ctx context.Context) {
		list, err := s.b.list(ctx)
		if err != nil && ctx.Err() == nil {
			s.out.tell("%s", s.o.Line(err.Error()))
		}
		if err != nil {
			return
		}
		select {
		case s.w.updates <- update{sourcesOf(list, isDir), since}:
		case <-ctx.Done():
		}
	})
}

// rest does what can wait: nothing is being built, and all nodes have dealt with
// the newest binary.
func (s *session) rest(ctx context.Context) {
	dealt := s.failed || s.net != nil && len(s.told) == len(s.net.members)
	if !s.working && dealt && !s.listSince.IsZero() {
		s.list(ctx)
	}
}

// built puts a new binary where the nodes find it.
func (s *session) built(ctx context.Context, r built) error {
	s.failed = r.err != nil
	if s.failed {
		s.notBuilt(r)
		return nil
	}
	if r.sum == s.placed.sum {
		s.out.tell("built in %s: the binary is the same", millis(r.took))
		return nil
	}
	if err := os.Rename(s.b.out, s.file()); err != nil {
		return err
	}
	s.placed, s.told = r, map[string]string{}
	switch {
	case s.net != nil:
		s.nudge(ctx)
	case !s.starting:
		s.start(ctx, r.desc)
	}
	return nil
}

// file is the binary in the plugin directory.
func (s *session) file() string { return filepath.Join(s.plugins, filepath.Base(s.b.out)) }

// nudge has the nodes take the new binary at once, and whatever is held against
// it. They would find it by themselves once it has been unchanged for a while,
// but a rename leaves no half of a file.
func (s *session) nudge(ctx context.Context) {
	for _, m := range s.net.members {
		s.wg.Go(func() {
			// What comes of it is an event; a handler that is not there yet is found.
			_ = m.node.RestartPlugin(ctx, filepath.Base(s.b.out))
		})
	}
}

func (s *session) start(ctx context.Context, desc sdk.Description) {
	s.starting, s.desc = true, desc
	o := settings{plugins: s.plugins, dna: desc.Name, dnas: s.o.DNA, debug: s.o.Debug, deadline: s.o.Timeout}
	s.wg.Go(func() {
		net, err := startNetwork(ctx, o, s.nodeNames, s.dataOf, func(name string) *slog.Logger {
			return s.o.Log(s.out.logOf(s.prefix[name]))
		})
		s.started <- startedNetwork{net, err} // has room
	})
}

func (s *session) dataOf(name string) string { return filepath.Join(s.data, name) }

// up begins to follow a network that has started.
func (s *session) up(ctx context.Context, net *network) {
	s.net, s.upAt = net, time.Now()
	s.ready(ctx)
	for _, m := range net.members {
		s.wg.Go(func() {
			<-m.ended
			s.broke <- m // has room
		})
		s.wg.Go(func() {
			_ = m.node.PluginEvents(ctx, control.EventQuery{Follow: true}, func(e control.PluginEvent) error {
				select {
				case s.events <- event{m, e}:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
	}
}
