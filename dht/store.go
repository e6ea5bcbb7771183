package dht

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"
)

const (
	floorKept  = 48 * time.Hour // after the record's end
	writeEvery = 10 * time.Second
	writeBurst = 5 // changes of one record that are taken at once
)

// held is a record kept for its agent.
type held struct {
	rec     *Record
	by      *subnet          // that it came from; nil: none
	homes   []*subnet        // that it names, where its agent did not bring it: see netsOf
	until   millis           // the earlier end by the author's clock and by ours
	written millis           // when credit was last counted
	credit  uint8            // changes left
	agent   bool             // its agent brought it
	back    []netip.AddrPort // that rec, a tombstone, has taken back: of the record that was here
}

// millis is Unix time in milliseconds, as records have it.
type millis int64

func toMillis(t time.Time) millis { return millis(t.UnixMilli()) }

// floor is the highest seq seen of an agent: a lower one is never taken again,
// though the record itself is gone.
type floor struct {
	seq   uint64
	until millis
}

// store keeps records for others, bounded in number and bytes. When it is full
// the records farthest from self go first, and before them those that others handed on
// (origin): no junk from far away displaces what this node answers for.
type store struct {
	self                           ID
	maxRecords, maxBytes, maxFloor int
	verify                         func(*Record) error
	group                          GroupFunc
	off                            Ablation
	records                        shelf
	floors                         map[ID]floor
	nets                           map[netip.Prefix]*subnet // that records count for
	all                            memo                     // of all records
	changes                        uint64                   // of records and what they count for
	bytes                          int
	withdrawn                      int       // records that are tombstones
	evicted                        func(Key) // is told whose record was dropped for another; nil: nobody is
}

func newStore(self ID, cfg *Config) *store {
	group := cfg.Group
	if group == nil {
		group = DefaultGroup
	}
	return &store{self: self, group: group, maxRecords: cfg.MaxRecords, maxBytes: cfg.MaxBytes, maxFloor: cfg.MaxFloors,
		verify: (*Record).Verify, floors: map[ID]floor{}, nets: map[netip.Prefix]*subnet{}}
}

// get returns the valid record at id.
func (s *store) get(now time.Time, id ID) *Record {
	h := s.records.at(id)
	if h == nil || toMillis(now) >= h.until || h.rec.Current(now) != nil {
		return nil
	}
	return h.rec
}

// put applies the conflict rule to rec, which somebody of the network source hands on. With
// StatusNewer it returns the newer record if that is still valid. The cheap checks
// come before the signature's.
func (s *store) put(now time.Time, rec *Record, source netip.Prefix) (Status, *Record) {
	return s.take(now, rec, origin{net: source}, func() bool { return true })
}

// take is put of who o is, that asks before it checks a signature, or counts a record for another
// network: StatusBusy if it may not.
func (s *store) take(now time.Time, rec *Record, o origin, may func() bool) (Status, *Record) {
	if rec.Current(now) != nil {
		if now.Before(rec.Expires()) {
			return StatusFuture, nil
		}
		return StatusExpired, nil
	}
	id := rec.position()
	old := s.records.at(id)
	if f, ok := s.floors[id]; ok && rec.Seq < f.seq && !s.off.Floors {
		return StatusNewer, s.get(now, id)
	}
	if old != nil && rec.Seq == old.rec.Seq && !rec.newer(old.rec) {
		if string(rec.raw) != string(old.rec.raw) {
			return StatusNewer, s.get(now, id)
		}
		if s.promotes(old, o) && !may() { // it may look at all records
			return StatusBusy, nil
		}
		old.until = until(now, rec)
		s.promote(id, old, o)
		return StatusOK, nil
	}
	if old != nil && !old.hasCredit(now) {
		return StatusBusy, nil
	}
	if old == nil && !s.fits(id, rec, o) {
		return StatusNotClose, nil
	}
	if !may() {
		return StatusBusy, nil
	}
	if s.verify(rec) != nil {
		return StatusInvalid, nil
	}
	if old != nil {
		old.credit-- // not before: a forger must not use up what is the agent's
	}
	s.set(now, id, rec, old, o)
	return StatusOK, nil
}

func until(now time.Time, r *Record) millis { return toMillis(earlier(now.Add(r.TTL), r.Expires())) }

// hasCredit tells whether the record may change once more: writeBurst times at
// once, one more every writeEvery.
func (h *held) hasCredit(now time.Time) bool {
	at := toMillis(now)
	h.written = min(h.written, at) // the clock was set back
	if n := (at - h.written) / millis(writeEvery/time.Millisecond); n > 0 {
		h.credit = uint8(min(writeBurst, millis(h.credit)+n))
		h.written = at
	}
	return h.credit > 0
}

func (s *store) set(now time.Time, id ID, rec *Record, old *held, o origin) {
	if old != nil {
		s.bytes += len(rec.raw) - len(old.rec.raw)
		s.withdrawn += btoi(rec.tombstone()) - btoi(old.rec.tombstone())
		switch {
		case !rec.tombstone():
			old.back = nil
		case !old.rec.tombstone():
			old.back = old.rec.Addrs
		}
		old.rec, old.until = rec, until(now, rec)
		s.promote(id, old, o)
	} else {
		h := &held{rec: rec, until: until(now, rec), credit: writeBurst - 1, written: toMillis(now), agent: o.agent}
		nets := s.netsOf(rec, o)
		for _, n := range nets {
			if s.full(n) {
				s.evict(s.farthest(n))
			}
		}
		s.records.add(id, h)
		s.count(h, nets)
		s.bytes += len(rec.raw)
		s.withdrawn += btoi(rec.tombstone())
	}
	s.raise(id, floor{rec.Seq, toMillis(rec.Expires().Add(floorKept))})
	for s.records.len() > s.maxRecords || s.bytes > s.maxBytes {
		s.evict(s.farthest(netip.Prefix{}))
	}
}

// oldest is the record that was taken first.
func (s *store) oldest() (old ID) {
	at := millis(math.MaxInt64)
	for _, h := range s.records.held {
		if id := h.rec.position(); h.written < at || h.written == at && compare(s.self, id, old) < 0 {
			old, at = id, h.written
		}
	}
	return old
}

// evict drops a record for the sake of another.
func (s *store) evict(id ID) {
	if h := s.records.at(id); h != nil && s.evicted != nil {
		s.evicted(h.rec.Key)
	}
	s.drop(id)
}

func (s *store) drop(id ID) {
	if h := s.records.at(id); h != nil {
		s.bytes -= len(h.rec.raw)
		s.withdrawn -= btoi(h.rec.tombstone())
		s.uncount(h)
		s.records.remove(id)
	}
}

// recordIDs are the records' positions, the nearest to self first.
func (s *store) recordIDs() []ID {
	ids := slices.AppendSeq(make([]ID, 0, s.records.len()), s.records.ids())
	nearestFirst(s.self, ids)
	return ids
}

// nearestFirst sorts ids by their distance from self.
func nearestFirst(self ID, ids []ID) {
	slices.SortFunc(ids, func(a, b ID) int { return compare(self, a, b) })
}

// raise keeps the floor of id. When there are too many, those go that end first,
// but none of a record that is kept: a sixteenth at once, so that a flood of new
// agents costs one sort in many PUTs.
func (s *store) raise(id ID, f floor) {
	if old, ok := s.floors[id]; ok && old.seq > f.seq {
		return
	}
	s.floors[id] = f
	if len(s.floors) <= s.maxFloor {
		return
	}
	var free []ID
	for i := range s.floors {
		if s.records.at(i) == nil {
			free = append(free, i)
		}
	}
	slices.SortFunc(free, func(a, b ID) int {
		return cmp.Or(cmp.Compare(s.floors[a].until, s.floors[b].until), compare(s.self, a, b))
	})
	for _, i := range free[:min(len(free), 1+s.maxFloor/16)] {
		delete(s.floors, i)
	}
	if len(free) == 0 {
		delete(s.floors, id)
	}
}

// sweep drops what has expired.
func (s *store) sweep(now time.Time) {
	at := toMillis(now)
	for i := s.records.len() - 1; i >= 0; i-- {
		if h := s.records.held[i]; at >= h.until {
			s.drop(h.rec.position())
		}
	}
	for id, f := range s.floors {
		if at >= f.until {
			delete(s.floors, id)
		}
	}
}
