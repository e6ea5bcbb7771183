package plugin

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	defaultSettle = 300 * time.Millisecond
	readyPatience = 10                    // the node's start waits so many times settle for a file to settle
	absentFactor  = 3                     // a file is gone after so many times settle
	rescanEvery   = 30 * time.Second      // whatever is told, or not
	pollEvery     = 2 * time.Second       // where the system tells nothing
	watchPause    = 50 * time.Millisecond // after a change: others follow
)

// watcher tells when something may have changed in a directory. The directory is
// watched, not its files: a file that is renamed over has another inode.
type watcher struct {
	dir   string
	every time.Duration // between two looks, at most
	log   *slog.Logger
	fs    *fsnotify.Watcher // nil where the system has none to give
	inode os.FileInfo       // of the directory that is watched
	moan  bool              // it was said that there is none
	stale bool              // the directory has gone: another one may have its inode
}

func newWatcher(dir string, every time.Duration, log *slog.Logger) *watcher {
	w := &watcher{dir: dir, every: every, log: log}
	w.renew()
	return w
}

// renew watches the directory, if it is not the one that is watched. It is
// called before the directory is listed, so that nothing falls between.
func (w *watcher) renew() {
	info, err := os.Stat(w.dir)
	if err == nil && w.fs != nil && !w.stale && os.SameFile(info, w.inode) {
		return
	}
	w.close()
	if err != nil {
		return // it is looked at until it is there again
	}
	fs, err := fsnotify.NewWatcher()
	if err == nil {
		if err = fs.Add(w.dir); err != nil {
			err = errors.Join(err, fs.Close())
		}
	}
	if err != nil {
		if !w.moan {
			w.moan = true
			w.log.Warn("the plugin directory can't be watched, so it is looked at", "every", pollEvery, "error", err)
		}
		return
	}
	w.fs, w.inode = fs, info
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
		w.fs = nil
	}
	w.stale = false
}

// wait returns when something may have changed, after at most d (0: any time), when
// stop is closed, or when there is something in also, which it takes.
func (w *watcher) wait(stop, also <-chan struct{}, d time.Duration) {
	most := w.every
	var events chan fsnotify.Event
	var errs chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	} else {
		most = min(most, pollEvery)
	}
	if d == 0 || d > most {
		d = most
	}
	t := time.NewTimer(d)
	defer t.Stop()
	told := false
	for {
		select {
		case <-stop:
			return
		case <-also:
			return
		case <-t.C:
			return
		case e, ok := <-events:
			if !ok {
				events = nil
			}
			w.stale = w.stale || !ok || e.Name == w.dir && e.Has(fsnotify.Remove|fsnotify.Rename)
		case err, ok := <-errs: // it may have lost some
			if !ok {
				errs = nil
			}
			w.log.Debug("watching the plugin directory", "error", err)
		}
		if !told {
			told = true
			t.Reset(min(d, watchPause))
		}
	}
}
