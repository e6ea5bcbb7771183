package plugin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// slot is one file of the directory.
type slot struct {
	h     *Handler
	sup   *supervisor   // nil for a file that is not started
	ended chan struct{} // closed when sup has ended

	leaving bool  // sup was told that the file is gone
	reborn  bool  // the file is there again: started when sup has ended
	heir    *slot // takes the name, and what lies under it, when sup has ended
	lost    bool  // nothing lies there any more

	going bool // the file is gone; whether another one takes its place is not known yet
}

// directory makes the handlers what the plugin directory holds. Its fields
// belong to the goroutine of run, but for running and ended.
type directory struct {
	m        *Manager
	settling *settling
	slots    map[string]*slot
	initial  map[string]bool // files of the first look that are not complete yet
	begun    func()          // told when there are none; nil then
	patience time.Time       // for so long: a file may change all the time
	starting *sync.WaitGroup // the first starts of what was there at the beginning
	running  sync.WaitGroup  // the supervisors
	ended    chan struct{}   // holds one when a supervisor, or what it tried, has ended
	unread   bool            // the directory could not be read the last time
	pins     fingerprint     // of the file of pins when it was last looked at
}

// run looks at the directory whenever it changes, until ctx ends.
func (d *directory) run(ctx context.Context) error {
	w := newWatcher(d.m.cfg.Dir, d.m.cfg.rescan, d.m.cfg.Log)
	defer w.close()
	for first := true; ctx.Err() == nil; first = false {
		w.renew()
		files, err := scan(d.m.cfg.Dir)
		if first && err != nil {
			return fmt.Errorf("plugin: %w", err)
		}
		if first {
			for _, f := range files {
				d.initial[f.name] = true
			}
		}
		var again time.Duration
		if d.readable(err) {
			again = d.look(ctx, files)
		}
		if d.pinsChanged() {
			d.tryAgain()
		}
		w.wait(ctx.Done(), d.ended, again)
		d.reap(ctx)
	}
	return nil
}

// readable notes whether the directory could be read. While it can't, what runs
// goes on: a file system that is away for a moment is no wish to stop.
func (d *directory) readable(err error) bool {
	if err != nil && !d.unread {
		d.m.cfg.Log.Error("the plugin directory can't be read; the handlers run on, and nothing that is done there counts until it can", "error", err)
	} else if err == nil && d.unread {
		d.m.cfg.Log.Info("the plugin directory can be read again")
	}
	d.unread = err != nil
	return err == nil
}

// look takes a look at the directory, and says when to take the next one (0: when
// something happens).
func (d *directory) look(ctx context.Context, files []found) time.Duration {
	changes, again := d.settling.observe(time.Now(), files)
	for _, c := range changes {
		s, old := d.slots[c.name], d.slots[c.from]
		switch {
		case c.gone:
			d.gone(s)
		case s == nil && old != nil && old.sup != nil && !old.leaving && c.skip == nil:
			d.rename(old, c.name)
			d.m.cfg.Log.Info("handler's file was renamed", "from", c.from, "to", c.name)
		case c.skip != nil:
			d.gone(old)
			d.skip(c)
		default:
			d.gone(old)
			d.changed(ctx, c.name)
		}
	}
	d.publish()
	if d.begun != nil {
		for name := range d.initial {
			if d.settling.pending(name) && time.Now().Before(d.patience) {
				return again
			}
		}
		d.begun()
		d.begun = nil
	}
	return again
}

// changed deals with a file that may be a handler.
func (d *directory) changed(ctx context.Context, name string) {
	switch s := d.slots[name]; {
	case s == nil || s.sup == nil:
		d.start(ctx, name)
	case s.leaving:
		s.reborn, s.lost = true, false
	default:
		s.going = false
		s.sup.inbox.tell(func(m *mail) { m.changed = true })
	}
}

// start starts a supervisor.
func (d *directory) start(ctx context.Context, name string) {
	s := &slot{h: newHandler(name, &d.m.cfg), ended: make(chan struct{})}
	s.sup = newSupervisor(d.m, s.h)
	s.sup.decided = d.nudge
	if d.begun != nil {
		d.starting.Add(1)
		s.sup.first = d.starting.Done
	}
	d.slots[name] = s
	d.publish() // Status knows of what Attach and Ready are asked
	d.running.Go(func() {
		s.sup.run(ctx)
		close(s.ended)
		d.nudge()
	})
}

// nudge is told that a supervisor has ended, or that what one tried has.
func (d *directory) nudge() {
	select {
	case d.ended <- struct{}{}:
	default:
	}
}

// skip deals with a file that can't be a handler. What ran under its name goes on.
func (d *directory) skip(c change) {
	s := d.slots[c.name]
	if s == nil || s.sup == nil {
		s = &slot{h: newHandler(c.name, &d.m.cfg)}
		s.h.set(StateSkipped, nil, c.skip)
		d.slots[c.name] = s
		d.m.cfg.Log.Warn("file in the plugin directory is not started", "handler", c.name, "reason", c.skip)
		return
	}
	s.reborn, s.lost, s.going = false, false, false
	if !s.leaving {
		s.h.tried(c.skip)
		d.m.cfg.Log.Error("what replaced the handler's file is no handler; what ran goes on", "handler", c.name, "reason", c.skip)
	}
}

// gone deals with a file that went for good. Where another file waits for the
// same DNA, that one takes its place as a new binary would.
func (d *directory) gone(s *slot) {
	if s == nil {
		return
	}
	if s.sup == nil {
		delete(d.slots, s.h.File())
		return
	}
	if s.leaving {
		s.reborn, s.lost = false, true
		return
	}
	s.going = false
	for _, other := range d.slots {
		if other == s || other.sup == nil || other.leaving || other.going { // its file is gone as well
			continue
		}
		if other.h.waitsFor(s.h) {
			other.heir, other.leaving = s, true
			other.sup.inbox.tell(func(m *mail) { m.gone = true })
			d.m.cfg.Log.Info("handler's file is gone; another one of its DNA takes its place", "handler", s.h.File(), "by", other.h.File())
			delete(d.slots, s.h.File())
			return
		}
		s.going = s.going || other.h.mayWaitFor(s.h)
	}
	if s.going { // until that has been tried
		return
	}
	s.leaving = true
	s.sup.inbox.tell(func(m *mail) { m.gone = true })
}

// rename gives a handler another file. The process that runs stays.
func (d *directory) rename(s *slot, name string) {
	from := s.h.File()
	if d.slots[from] == s {
		delete(d.slots, from)
	}
	s.h.rename(name)
	s.going = false
	s.sup.inbox.tell(func(m *mail) { m.renamed = append(m.renamed, from) })
	d.slots[name] = s
}

// reap takes supervisors away that have ended, and decides what waited for one.
func (d *directory) reap(ctx context.Context) {
	room := false
	for name, s := range d.slots {
		if s.sup == nil {
			continue
		}
		select {
		case <-s.ended:
		default:
			continue
		}
		room = true
		delete(d.slots, name)
		switch {
		case ctx.Err() != nil:
			d.slots[name] = s // status tells how it ended
		case s.heir != nil:
			d.rename(s.heir, name)
			if s.lost {
				d.gone(s.heir)
				break
			}
			s.heir.sup.inbox.tell(func(m *mail) { m.changed = true })
		case s.reborn:
			d.start(ctx, name)
		}
	}
	if room {
		d.tryAgain()
	}
	for _, s := range slices.Collect(maps.Values(d.slots)) {
		if s.going && !s.leaving {
			d.gone(s)
		}
	}
	d.publish()
	if room {
		d.m.collect()
	}
}

// tryAgain tells the handlers that what stood in their way may be gone.
func (d *directory) tryAgain() {
	for _, s := range d.slots {
		if s.sup != nil {
			s.sup.inbox.tell(func(m *mail) { m.again = true })
		}
	}
}

func (d *directory) pinsChanged() bool {
	if d.m.cfg.Pins == "" {
		return false
	}
	var now fingerprint
	if info, err := os.Stat(d.m.cfg.Pins); err == nil {
		now = printOf(info)
	}
	changed := now != d.pins
	d.pins = now
	return changed
}

// publish makes the slots known to the manager.
func (d *directory) publish() {
	slots := slices.Collect(maps.Values(d.slots))
	for _, s := range slots {
		if s.heir != nil { // it runs on, under no file's name
			slots = append(slots, s.heir)
		}
	}
	slices.SortFunc(slots, func(a, b *slot) int { return cmp.Compare(a.h.File(), b.h.File()) })
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.slots = slots
}
