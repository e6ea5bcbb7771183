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
	if len(nets) == 1 && nets[0].IsValid() {
		most = s.sources[nets[0]] + more
	}
	for _, n := range nets[1:] {
		if c := s.homes[n]; c != nil {
			most = max(most, *c)
		}
	}
	if len(nets) > 1 {
		most += more
	}
	return 1 + turn(bits.Len(uint(most)))
}

// turn is turnOf for one that is kept, for whom no network need be looked up.
func (s *store) turn(h *held) turn {
	if h.agent || len(h.nets) == 1 {
		return s.turnOf(h.agent, h.nets, 0)
	}
	most := 0
	for _, c := range h.homes {
		most = max(most, *c)
	}
	return 1 + turn(bits.Len(uint(most)))
}

// mayHandOn tells whether neighbours may be given h: its agent was here, from a network where it says that
// it can be dialled, or said so until it withdrew. A tombstone alone names no network: anybody could make any number.
func (s *store) mayHandOn(h *held) bool {
	if s.off.Stores {
		return true
	}
	if !h.agent || !h.nets[0].IsValid() {
		return h.agent
	}
	addrs := h.rec.Addrs
	if h.rec.tombstone() {
		addrs = h.back
	}
	return slices.ContainsFunc(addrs, func(a netip.AddrPort) bool {
		_, wide := s.group(a.Addr())
		return wide == h.nets[0]
	})
}

// promote notes that the agent of a record that is kept has brought it, from a network that it
// did not come from before. Where that has brought enough, the farthest of its records goes; is that this
// one, all stays as it was.
func (s *store) promote(id ID, h *held, o origin) {
	if !s.promotes(h, h.rec, o) {
		return
	}
	nets, was := s.netsOf(h.rec, o), *h
	s.count(h, -1)
	h.agent, h.nets = true, nets
	for _, n := range nets {
		if !s.full(n) {
			continue
		}
		far := s.farthest(n)
		if far == id {
			h.agent, h.nets = was.agent, was.nets
			break
		}
		s.evict(far)
	}
	s.count(h, 1)
}

// promotes tells whether promote has something to do.
func (s *store) promotes(h *held, rec *Record, o origin) bool {
	return o.agent && !(h.agent && slices.Equal(h.nets, s.netsOf(rec, o)))
}

// count adds n to the records of h's networks.
func (s *store) count(h *held, n int) {
	clear(s.last)
	homes := h.nets
	if !h.agent {
		homes = h.nets[1:]
	}
	h.homes = h.homes[:0]
	for _, p := range homes {
		if !p.IsValid() {
			continue
		}
		c := s.homes[p]
		if c == nil {
			c = new(int)
			s.homes[p] = c
		}
		if *c += n; *c == 0 {
			delete(s.homes, p)
		}
		if !h.agent {
			h.homes = append(h.homes, c)
		}
	}
	for i, p := range h.nets {
		if i > 0 && p == h.nets[0] {
			continue
		}
		if s.sources[p] += n; s.sources[p] == 0 || !p.IsValid() {
			delete(s.sources, p)
		}
	}
}

// full tells whether a network has brought as many records as it may: an eighth of all.
func (s *store) full(net netip.Prefix) bool {
	return net.IsValid() && !s.off.Stores && s.sources[net] >= s.share()
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
	if far, known := s.last[net]; known {
		return far
	}
	far, last := s.self, turn(0)
	for id, h := range s.records {
		if net.IsValid() && !slices.Contains(h.nets, net) {
			continue
		}
		if t := s.turn(h); s.goesBefore(id, t, far, last) {
			far, last = id, t
		}
	}
	s.last[net] = far
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
		h := s.records[far]
		return h != nil && s.goesBefore(far, s.turn(h), id, at)
	}
	for _, n := range nets { // one that stands here twice is the same again
		if s.full(n) && !beats(n) {
			return false
		}
	}
	return len(s.records) < s.maxRecords && s.bytes+len(rec.raw) <= s.maxBytes || beats(netip.Prefix{})
}
