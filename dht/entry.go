package dht

import (
	"net/netip"
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
	sources                 map[netip.Prefix]int
	bytes                   int
}

type keptEntry struct {
	body   []byte
	author Key
	until  time.Time
	source netip.Prefix // as in held
}

func newEntries(self ID, cfg *Config) *entries {
	return &entries{self: self, max: cfg.MaxEntries, maxBytes: cfg.MaxEntryBytes, ofAuthor: cfg.EntriesByAuthor,
		check: cfg.CheckEntry}
}

func (s *entries) get(now time.Time, id ID) []byte {
	if e := s.kept[id]; e != nil && now.Before(e.until) {
		return e.body
	}
	return nil
}

// put keeps a body whose position near accepts, which its author published age ago
// and which comes from the network source: an eighth of all may.
func (s *entries) put(now time.Time, body []byte, age time.Duration, source netip.Prefix, near func(ID) bool) Status {
	if s.check == nil {
		return StatusInvalid
	}
	id, author, err := s.check(body)
	if err != nil {
		return StatusInvalid
	}
	until := now.Add(entryKept - age)
	if !now.Before(until) {
		return StatusExpired
	}
	if old := s.kept[id]; old != nil { // an entry never changes
		if until.After(old.until) {
			old.until = until
		}
		return StatusOK
	}
	if !near(id) {
		return StatusNotClose
	}
	bounds := []struct {
		full func() bool
		of   func(*keptEntry) bool // what the bound is of: the farthest of it goes
	}{
		{func() bool { return s.authors[author] >= s.ofAuthor }, func(e *keptEntry) bool { return e.author == author }},
		{func() bool { return source.IsValid() && s.sources[source] >= max(1, s.max/8) }, func(e *keptEntry) bool { return e.source == source }},
		{func() bool { return len(s.kept) >= s.max || s.bytes+len(body) > s.maxBytes }, func(*keptEntry) bool { return true }},
	}
	for _, b := range bounds { // all are asked before anything goes
		if b.full() && !s.nearerThanFarthest(id, b.of) {
			return StatusNotClose
		}
	}
	for _, b := range bounds {
		for b.full() {
			s.drop(s.farthest(b.of))
		}
	}
	if s.kept == nil { // most nodes keep none
		s.kept, s.authors, s.sources = map[ID]*keptEntry{}, map[Key]int{}, map[netip.Prefix]int{}
	}
	s.kept[id] = &keptEntry{slices.Clone(body), author, until, source}
	s.authors[author]++
	s.sources[source]++
	s.bytes += len(body)
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
		if s.sources[e.source]--; s.sources[e.source] == 0 {
			delete(s.sources, e.source)
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

// putRequest asks another node to keep what is kept at id; nil if nothing is.
func (c *core) putRequest(now time.Time, id ID) *Request {
	if r := c.store.get(now, id); r != nil {
		return &Request{Op: OpPut, Record: r}
	}
	if b := c.entries.get(now, id); b != nil {
		age := entryKept - c.entries.kept[id].until.Sub(now)
		return &Request{Op: OpPut, Entry: b, Age: uint32(max(age, 0) / time.Second)}
	}
	return nil
}
