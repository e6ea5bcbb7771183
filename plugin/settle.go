package plugin

import "time"

// fingerprint tells whether a file is the one that was seen before. A copy that
// keeps the old time of modification (cp -p) still has a new ctime.
type fingerprint struct {
	dev, inode   uint64
	size         int64
	mtime, ctime time.Time
}

// same tells whether it may be the same file under another name: that changes the ctime.
func (p fingerprint) same(q fingerprint) bool {
	p.ctime, q.ctime = time.Time{}, time.Time{}
	return p == q && p.inode != 0
}

// settling decides which files of the directory are complete, and which have
// gone for good. It is pure: observe takes the time.
type settling struct {
	settle  time.Duration // for so long a file must not have changed
	absent  time.Duration // for so long a file must be missing
	files   map[string]*settlingFile
	started bool
}

type settlingFile struct {
	found
	since   time.Time // when it was first seen so
	missing bool      // since then
	told    bool      // as it is
	known   bool      // told, now or before
}

// change is what became of a file.
type change struct {
	found
	gone bool
	from string // the file's old name, if it was renamed
}

func newSettling(settle, absent time.Duration) *settling {
	return &settling{settle: settle, absent: absent, files: map[string]*settlingFile{}}
}

// observe takes a look at the directory. It gives what has changed for good,
// what came before what went; and when to look again even if nothing happens, or 0.
func (s *settling) observe(now time.Time, files []found) (changes []change, again time.Duration) {
	later := func(d time.Duration) {
		if again == 0 || d < again {
			again = d
		}
	}
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		seen[f.name] = true
	}
	for name, have := range s.files {
		if !seen[name] && !have.missing {
			have.missing, have.since = true, now
		}
	}
	for i := range files {
		have := s.see(now, &files[i])
		switch left := s.settle - now.Sub(have.since); {
		case have.told:
		case left > 0:
			later(left)
		default:
			have.told, have.known = true, true
			changes = append(changes, change{found: have.found, from: s.renamed(have)})
		}
	}
	for name, have := range s.files {
		if !have.missing {
			continue
		}
		if left := s.absent - now.Sub(have.since); left > 0 {
			later(left)
			continue
		}
		delete(s.files, name)
		if have.known {
			changes = append(changes, change{found: have.found, gone: true})
		}
	}
	s.started = true
	return changes, again
}

// pending tells whether a file is there and only not complete yet, as far as
// that takes a known time.
func (s *settling) pending(name string) bool {
	f := s.files[name]
	return f != nil && !f.missing && !f.told && !f.busy
}

// see compares a file with what was seen of it before.
func (s *settling) see(now time.Time, f *found) *settlingFile {
	have := s.files[f.name]
	if have != nil && have.print == f.print && sameText(have.skip, f.skip) && !f.busy {
		if have.missing {
			have.missing, have.since = false, now
		}
		return have
	}
	next := &settlingFile{found: *f, since: now, known: have != nil && have.known}
	if !s.started && !f.busy && f.print.ctime.Before(now) {
		next.since = f.print.ctime // it was there before the node
	}
	s.files[f.name] = next
	return next
}

// renamed finds the file that this one was, among those that are missing.
func (s *settling) renamed(f *settlingFile) (from string) {
	for name, old := range s.files {
		if old.missing && old.known && old.print.same(f.print) {
			delete(s.files, name)
			return name
		}
	}
	return ""
}

func sameText(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Error() == b.Error()
}
