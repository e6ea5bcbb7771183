package sim

import (
	"time"

	"github.com/parley-p2p/parley/dht"
)

// Behaviour is what a colluding node does with requests. It answers PING with
// its record always, so that it stays in tables.
type Behaviour uint8

const (
	// Collude answers with the colluders nearest to the target, 16 of the nearest
	// 128 in turn, has no record and keeps none, though it says so.
	Collude Behaviour = iota
	// Same answers always with the 16 nearest colluders.
	Same
	// Stale keeps the oldest record that it was given, serves that, and names colluders.
	Stale
	// Drop answers PING only.
	Drop
	// Loris answers like Collude, just before the caller gives up.
	Loris
	// Forget is honest, but takes every PUT and keeps nothing.
	Forget
	Behaviours // how many there are
)

func (b Behaviour) String() string {
	return [...]string{"collude", "same", "stale", "drop", "loris", "forget", "?"}[min(b, Behaviours)]
}

// Width of what colluders name.
const (
	colluders = 128
	lorisWait = 900 * time.Millisecond
)

// liar is the part of a node that lies.
type liar struct {
	behaviour Behaviour
	hide      bool        // it is not in tables at the start
	rec       *dht.Record // changes between windows only
	turn      int
	kept      map[dht.ID]*dht.Record
	named     bool // the others name only those who are
	served    int  // requests that it got
	poses     bool // it brings each record over a session of that record's agent
}

// asker is whose session brings a request of n's.
func (n *node) asker(req *dht.Request) dht.Key {
	if n.liar != nil && n.liar.poses && req.Record != nil {
		return req.Record.Key
	}
	return n.key
}

func (n *node) hidden() bool { return n.liar != nil && n.liar.hide }

func (l *liar) keep(r *dht.Record) {
	if l.behaviour != Stale {
		return
	}
	if l.kept == nil {
		l.kept = map[dht.ID]*dht.Record{}
	}
	id := dht.NodeID(r.Key)
	if l.kept[id] == nil {
		l.kept[id] = r
	}
}

// lie answers m.
func (p *partition) lie(n *node, at int64, m *message) {
	s, l := p.sim, n.liar
	now := clock(at)
	l.served++
	resp := &dht.Response{Seq: l.rec.Seq, Time: uint64(now.UnixMilli())}
	if m.req.Op == dht.OpPing {
		resp.Record = l.rec
	} else if l.behaviour == Drop {
		p.back(n, at, evSilence, m)
		return
	}
	switch m.req.Op {
	case dht.OpGet:
		resp.Status = dht.StatusNone
		if r := l.kept[m.req.Target]; r != nil && r.Seq > m.req.KnownSeq {
			resp.Status, resp.Record = dht.StatusOK, r
		}
		resp.Contacts = s.collude(n, m)
	case dht.OpFind:
		resp.Contacts = s.collude(n, m)
	case dht.OpPut:
		l.keep(m.req.Record)
	}
	if l.behaviour == Loris && m.req.Op != dht.OpPing {
		at += int64(lorisWait)
	}
	m.resp = resp
	p.meter.answered(at, s, m)
	p.back(n, at, evResponse, m)
}

// renewLiars signs the liars' records anew, well before they expire.
func renewLiars(s *sim, at int64) {
	for i := range s.nodes {
		if n := &s.nodes[i]; n.liar != nil {
			n.liar.rec = s.record(n, at, n.liar.rec.Addrs[0])
		}
	}
}

// collude names colluders near the target.
func (s *sim) collude(n *node, m *message) []dht.Contact {
	width := colluders
	if n.liar.behaviour == Same {
		width = dht.MaxContacts
	}
	near := s.world.liars.closest(m.req.Target, width)
	out := make([]dht.Contact, 0, dht.MaxContacts)
	l := n.liar
	for range near {
		if len(out) == dht.MaxContacts {
			break
		}
		o := &s.nodes[near[l.turn%len(near)]]
		l.turn++
		if o.id != m.from && o.id != n.id {
			out = append(out, dht.Contact{Key: o.key, Record: o.liar.rec})
		}
	}
	return out
}
