package dht

import (
	"maps"
	"slices"
	"time"
)

const entryKept = 24 * time.Hour // after it was last put

// entries are the public entries kept for others: immutable, each at the position
// that its body says, bounded in number, bytes, and by author. Where there is no
// room the farthest from self goes.
type entries struct {
	self                    ID
	max, maxBytes, ofAuthor int
	check                   func([]byte) (ID, Key, error) // nil: none are kept
	kept                    map[ID]*keptEntry
	authors                 map[Key]int // entries by author
	bytes                   int
}

type keptEntry struct {
	body   []byte
	author Key
	until  time.Time
}

func newEntries(self ID, cfg *Config) *entries {
	return &entries{self: self, max: cfg.MaxEntries, maxBytes: cfg.MaxEntryBytes, ofAuthor: cfg.EntriesByAuthor,
		check: cfg.CheckEntry, kept: map[ID]*keptEntry{}, authors: map[Key]int{}}
}

func (s *entries) get(now time.Time, id ID) []byte {
	if e := s.kept[id]; e != nil && now.Before(e.until) {
		return e.body
	}
	return nil
}

// put keeps a body whose position near accepts.
func (s *entries) put(now time.Time, body []byte, near func(ID) bool) Status {
	if s.check == nil {
		return StatusInvalid
	}
	id, author, err := s.check(body)
	if err != nil {
		return StatusInvalid
	}
	if old := s.kept[id]; old != nil { // an entry never changes
		old.until = now.Add(entryKept)
		return StatusOK
	}
	if !near(id) {
		return StatusNotClose
	}
	of := func(e *keptEntry) bool { return e.author == author }
	all := func(*keptEntry) bool { return true }
	if s.authors[author] >= s.ofAuthor && !s.nearerThanFarthest(id, of) ||
		(len(s.kept) >= s.max || s.bytes+len(body) > s.maxBytes) && !s.nearerThanFarthest(id, all) {
		return StatusNotClose
	}
	s.kept[id] = &keptEntry{slices.Clone(body), author, now.Add(entryKept)}
	s.authors[author]++
	s.bytes += len(body)
	if s.authors[author] > s.ofAuthor {
		s.drop(s.farthest(of))
	}
	for len(s.kept) > s.max || s.bytes > s.maxBytes {
		s.drop(s.farthest(all))
	}
	return StatusOK
}

func (s *entries) nearerThanFarthest(id ID, of func(*keptEntry) bool) bool {
	return compare(s.self, id, s.farthest(of)) < 0
}

func (s *entries) farthest(of func(*keptEntry) bool) ID {
	far := s.self
	for id, e := range s.kept {
		if of(e) && compare(s.self, id, far) > 0 {
			far = id
		}
	}
	return far
}

func (s *entries) drop(id ID) {
	if e := s.kept[id]; e != nil {
		s.bytes -= len(e.body)
		if s.authors[e.author]--; s.authors[e.author] == 0 {
			delete(s.authors, e.author)
		}
		delete(s.kept, id)
	}
}

func (s *entries) sweep(now time.Time) {
	for id, e := range s.kept {
		if !now.Before(e.until) {
			s.drop(id)
		}
	}
}

// keptIDs are the positions of all that is kept for others: the records, then the
// entries, each the nearest to self first.
func (c *core) keptIDs() []ID {
	return append(c.store.recordIDs(), nearestFirst(c.id, maps.Keys(c.entries.kept))...)
}

// putRequest asks another node to keep what is kept at id; nil if nothing is.
func (c *core) putRequest(now time.Time, id ID) *Request {
	if r := c.store.get(now, id); r != nil {
		return &Request{Op: OpPut, Record: r}
	}
	if b := c.entries.get(now, id); b != nil {
		return &Request{Op: OpPut, Entry: b}
	}
	return nil
}
