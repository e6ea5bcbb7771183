package dht

import (
	"math/bits"
	"net/netip"
	"slices"
)

// origin is who brings a record.
type origin struct {
	net   netip.Prefix // the wide network that he comes from; the zero one counts for none
	agent bool         // he is the agent whose record it is: his session proves it
}

// subnet is a wide network that records of a store count for.
type subnet struct {
	prefix  netip.Prefix
	brought int32 // records that count for it
	homes   int32 // and records whose agents have it, or are said to have it
	memo    *memo // nil: farthest was not asked
}

// memo is what farthest has said, and store.changes and 1 at that time.
type memo struct {
	far ID
	at  uint64
}

// A store has two kinds of records. What an agent brought itself counts for the network that
// it came from, which TCP proves. What others handed on counts for their network, and for
// those of its own addresses, which whoever made it has chosen. Each network has an eighth of the store.
// What was handed on goes first, and first of it what names a network of which there is much here; and it is
// not handed on again. So junk gets to those nodes that its maker goes to, and to their neighbours
// under his own network's name only.

// netsOf are the networks that a record counts for: that of who brings it, which can be none, and
// of a record that is handed on those that it names.
func (s *store) netsOf(rec *Record, o origin) []netip.Prefix {
	nets := []netip.Prefix{o.net}
	if !o.agent {
		for _, a := range rec.Addrs {
			if _, wide := s.group(a.Addr()); wide.IsValid() && !slices.Contains(nets[1:], wide) {
				nets = append(nets, wide)
			}
		}
	}
	return nets
}

// share is how many records one network may bring.
func (s *store) share() int { return max(1, s.maxRecords/8) }

// turn is who gives way when: records of the highest one first. What its agent brought has 0, what others handed on
// 1, and more the more there is here of the networks that it names, whoever brought it: in powers of two, within which
// distance decides. What names none, a tombstone or local addresses, could be named by nobody but who brings it: there
// counts how much he has brought.
type turn uint8

// turnOf is the turn of a record that counts for nets; more is 1 where it is not among those kept.
func (s *store) turnOf(agent bool, nets []netip.Prefix, more int) turn {
	if agent {
		return 0
	}
	most := 0
	if len(nets) == 1 {
		if n := s.nets[nets[0]]; n != nil {
			most = int(n.brought)
		}
		if nets[0].IsValid() {
			most += more
		}
	}
	for _, p := range nets[1:] {
		if n := s.nets[p]; n != nil {
			most = max(most, int(n.homes))
		}
	}
	if len(nets) > 1 {
		most += more
	}
	return 1 + turn(bits.Len(uint(most)))
}

// turn is turnOf for one that is kept, for whom no network need be looked up.
func (s *store) turn(h *held) turn {
	if h.agent {
		return 0
	}
	most := 0
	if len(h.homes) == 0 && h.by != nil {
		most = int(h.by.brought)
	}
	for _, n := range h.homes {
		most = max(most, int(n.homes))
	}
	return 1 + turn(bits.Len(uint(most)))
}

// mayHandOn tells whether neighbours may be given h: its agent was here, from a network where it says that
// it can be dialled, or said so until it withdrew. A tombstone alone names no network: anybody could make any number.
func (s *store) mayHandOn(h *held) bool {
	if s.off.Stores {
		return true
	}
	if !h.agent || h.by == nil {
		return h.agent
	}
	addrs := h.rec.Addrs
	if h.rec.tombstone() {
		addrs = h.back
	}
	return slices.ContainsFunc(addrs, func(a netip.AddrPort) bool {
		_, wide := s.group(a.Addr())
		return wide == h.by.prefix
	})
}

// promote notes that the agent of a record that is kept has brought it, from a network that it
// did not come from before. Where that has brought enough, the farthest of its records goes; is that this
// one, all stays as it was.
func (s *store) promote(id ID, h *held, o origin) {
	if !s.promotes(h, o) {
		return
	}
	agent, nets := h.agent, h.nets()
	s.uncount(h)
	h.agent = true
	stays := false
	if s.full(o.net) {
		h.by = s.nets[o.net] // it is one of those that could go
		far := s.farthest(o.net)
		if stays = far == id; !stays {
			s.evict(far)
		}
		h.by = nil
	}
	if stays {
		h.agent = agent
	} else {
		nets = []netip.Prefix{o.net}
	}
	s.count(h, nets)
}

// promotes tells whether promote has something to do.
func (s *store) promotes(h *held, o origin) bool {
	return o.agent && !(h.agent && h.source() == o.net)
}

// source is the network that h came from, the zero one where that is none.
func (h *held) source() netip.Prefix {
	if h.by == nil {
		return netip.Prefix{}
	}
	return h.by.prefix
}

// nets are the networks that h counts for, as netsOf says them.
func (h *held) nets() []netip.Prefix {
	nets := []netip.Prefix{h.source()}
	for _, n := range h.homes {
		nets = append(nets, n.prefix)
	}
	return nets
}

// count has h, which counts for none, count for nets: netsOf says which.
func (s *store) count(h *held, nets []netip.Prefix) {
	s.changes++
	at := func(p netip.Prefix) *subnet {
		n := s.nets[p]
		if n == nil {
			n = &subnet{prefix: p}
			s.nets[p] = n
		}
		return n
	}
	if nets[0].IsValid() {
		h.by = at(nets[0])
		h.by.brought++
		h.by.homes += int32(btoi(h.agent))
	}
	for _, p := range nets[1:] {
		n := at(p)
		n.homes++
		n.brought += int32(btoi(n != h.by))
		h.homes = append(h.homes, n)
	}
}

// uncount has h count for none.
func (s *store) uncount(h *held) {
	s.changes++
	if h.by != nil {
		h.by.brought--
		h.by.homes -= int32(btoi(h.agent))
	}
	for _, n := range h.homes {
		n.homes--
		n.brought -= int32(btoi(n != h.by))
		s.forget(n)
	}
	s.forget(h.by)
	h.by, h.homes = nil, nil
}

// forget drops a network for which nothing counts.
func (s *store) forget(n *subnet) {
	if n != nil && n.brought == 0 {
		delete(s.nets, n.prefix)
	}
}

// full tells whether a network has brought as many records as it may: an eighth of all.
func (s *store) full(net netip.Prefix) bool {
	n := s.nets[net]
	return n != nil && !s.off.Stores && int(n.brought) >= s.share()
}

// goesBefore tells whether a record at a gives way before one at b.
func (s *store) goesBefore(a ID, turnA turn, b ID, turnB turn) bool {
	return turnA > turnB || turnA == turnB && compare(s.self, a, b) > 0
}

// farthest is the record that gives way first of those of a network, of all for the zero
// one; self if there is none. It is asked before any signature is checked and looks at all
// records: what it says is kept for as long as nothing changes, so that forged ones cost little.
func (s *store) farthest(net netip.Prefix) ID {
	if s.off.Stores {
		return s.oldest()
	}
	n, m := s.nets[net], &s.all
	switch {
	case n != nil:
		if n.memo == nil {
			n.memo = &memo{}
		}
		m = n.memo
	case net.IsValid():
		return s.self
	}
	if m.at == s.changes+1 {
		return m.far
	}
	far, last := s.self, turn(0)
	for _, h := range s.records.held {
		if n != nil && h.by != n && !slices.Contains(h.homes, n) {
			continue
		}
		if id, t := h.rec.position(), s.turn(h); s.goesBefore(id, t, far, last) {
			far, last = id, t
		}
	}
	m.far, m.at = far, s.changes+1
	return far
}

// fits tells whether a new record has room, or one that gives way before it would go: one of the same
// network, where that has brought enough.
func (s *store) fits(id ID, rec *Record, o origin) bool {
	if s.off.Stores {
		return true
	}
	nets := s.netsOf(rec, o)
	at := s.turnOf(o.agent, nets, 1)
	beats := func(net netip.Prefix) bool {
		far := s.farthest(net)
		h := s.records.at(far)
		return h != nil && s.goesBefore(far, s.turn(h), id, at)
	}
	for _, n := range nets { // one that stands here twice is the same again
		if s.full(n) && !beats(n) {
			return false
		}
	}
	return s.records.len() < s.maxRecords && s.bytes+len(rec.raw) <= s.maxBytes || beats(netip.Prefix{})
}
