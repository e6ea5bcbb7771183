package dev

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	quiet     = 100 * time.Millisecond // without a change, until a save is over
	quietMost = time.Second            // from the first change on
	maxDirs   = 4096                   // watched
)

// watcher tells when sources were saved. Its fields belong to the goroutine of
// run, but for saves and updates.
type watcher struct {
	fs      *fsnotify.Watcher
	sources *sources
	fresh   map[string]bool // directories that appeared and are in no package yet
	saves   chan time.Time  // when the first change of a save was seen
	updates chan update
	lost    func(error) // told of what could not be watched
}

// update is a new list of sources; since is a moment before they were read.
type update struct {
	sources *sources
	since   time.Time
}

func newWatcher(s *sources, since time.Time, lost func(error)) (*watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	out := &watcher{fs: w, sources: &sources{}, fresh: map[string]bool{}, saves: make(chan time.Time, 1), updates: make(chan update, 1), lost: lost}
	out.take(update{s, since})
	return out, nil
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer w.fs.Close()
	var first time.Time
	timer := time.NewTimer(quiet)
	timer.Stop()
	defer timer.Stop()
	changed := func() {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		timer.Reset(min(quiet, max(quietMost-now.Sub(first), 0)))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-w.updates:
			if w.take(u) {
				changed()
			}
		case e := <-w.fs.Events:
			if w.see(e) {
				changed()
			}
		case err := <-w.fs.Errors: // it may have lost some
			w.lost(err)
			changed()
		case <-timer.C:
			select {
			case w.saves <- first:
			default: // one waits, which is of earlier
			}
			first = time.Time{}
		}
	}
}

// take watches new sources instead of the old, and tells whether one of those
// that were not watched has changed meanwhile.
func (w *watcher) take(u update) (changed bool) {
	for dir := range w.sources.dirs {
		if !u.sources.dirs[dir] {
			_ = w.fs.Remove(dir) // it may be gone
		}
	}
	old := w.sources
	w.sources = u.sources
	for dir := range u.sources.dirs {
		had := old.dirs[dir] || w.fresh[dir]
		delete(w.fresh, dir)
		if w.add(dir) && !had && w.changedSince(dir, u.since) {
			changed = true
		}
	}
	return changed
}

// add watches a directory. One that is watched is watched again: it may have
// been replaced.
func (w *watcher) add(dir string) bool {
	err := w.fs.Add(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.lost(err)
	}
	return err == nil
}

func (w *watcher) changedSince(dir string, since time.Time) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && !e.IsDir() && info.ModTime().After(since) && w.sources.relevant(filepath.Join(dir, e.Name())) {
			return true
		}
	}
	return false
}

// see tells whether an event may change the binary.
func (w *watcher) see(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	if w.sources.dirs[e.Name] && e.Has(fsnotify.Create) { // it was away
		w.add(e.Name)
		return true
	}
	if info, err := os.Lstat(e.Name); e.Has(fsnotify.Create) && err == nil && info.IsDir() {
		return w.enter(e.Name)
	}
	return w.sources.relevant(e.Name)
}

// enter watches a directory that appeared, and those in it: packages may come.
func (w *watcher) enter(root string) (changed bool) {
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it went again
		case !e.IsDir():
			changed = changed || w.sources.relevant(path)
		case !enters(path) || len(w.fresh) >= maxDirs:
			return fs.SkipDir
		case w.add(path):
			w.fresh[path] = true
		}
		return nil
	})
	return changed
}
