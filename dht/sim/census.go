package sim

import (
	"math/rand/v2"
	"time"

	"github.com/parley-p2p/parley/dht"
)

const (
	censusEvery  = 15 * time.Minute
	censusSample = 400 // nodes that are looked at each time
	nearest      = 16  // k
	clientBucket = 8   // k of a client
	hourOld      = 45 * time.Minute
)

// census is what an observer of the whole network sees, summed over the times
// that he looks.
type census struct {
	times           int64
	online, servers int64
	full, fillable  int64 // buckets with k contacts, of those for which there are 16
	stale, entries  int64 // of buckets that are full
	staleThin, thin int64 // of the others
	know, nodes     int64 // nodes that know 15 of the 16 nearest
	overlap, agents int64 // sixteenths of the replicas that the nearest hold, an hour after publication
	records         []int64
	recordBytes     []int64
	size            []int64 // error of the size estimate, in thousandths
	contacts        []int64
	attackers       int64 // entries of attackers
	allEntries      int64
	badMost         int64 // entries of attackers in one table

	watched, watchedBad int64 // entries of nodes that an attack aims at
}

// censuses puts the observer's looks into the run.
func (s *sim) censuses() {
	for at := time.Duration(s.measure) + censusEvery; int64(at) <= s.end; at += censusEvery {
		s.globals = append(s.globals, global{at, func(s *sim, at int64) { s.look(at) }})
	}
	if s.cfg.Duration < censusEvery {
		s.globals = append(s.globals, global{time.Duration(s.end), func(s *sim, at int64) { s.look(at) }})
	}
}

// look is one census.
func (s *sim) look(at int64) {
	c := &s.census
	servers := newDirectory(s.nodes, func(n *node) bool { return n.up && !n.nat && !n.hidden() })
	var able []int32 // to be looked at
	c.times++
	for i := range s.nodes {
		n := &s.nodes[i]
		if n.up && n.m != nil {
			c.online++
			able = append(able, n.id)
		}
	}
	c.servers += int64(len(servers.who))
	for i := range s.nodes {
		if n := &s.nodes[i]; n.watched && n.m != nil {
			c.look(s, n)
		}
	}
	rnd := rand.New(rand.NewPCG(s.cfg.Seed, uint64(at)))
	for range min(censusSample, len(able)) {
		i := rnd.IntN(len(able))
		n := &s.nodes[able[i]]
		able[i] = able[len(able)-1]
		able = able[:len(able)-1]
		if n.m.Ready() && int64(clock(at).Sub(n.begun)) > int64(10*time.Minute) {
			c.node(s, at, n, servers)
		}
	}
}

// look counts the attackers in the table of a node that they aim at.
func (c *census) look(s *sim, n *node) {
	n.m.Table(func(e dht.TableEntry) {
		c.watched++
		if id, ok := s.world.nodeOf(e.Key); ok && s.nodes[id].liar != nil {
			c.watchedBad++
		}
	})
}

// node looks at one node.
func (c *census) node(s *sim, at int64, n *node, servers *directory) {
	var fill, stale [65]int64
	k := int64(nearest)
	if n.nat {
		k = clientBucket
	}
	bad := int64(0)
	known := map[int32]bool{}
	n.m.Table(func(e dht.TableEntry) {
		b := min(e.Bucket, 64)
		fill[b]++
		id, ok := s.world.nodeOf(e.Key)
		if !ok {
			return
		}
		known[id] = true
		o := &s.nodes[id]
		if a := e.Addresses(); !o.up || len(a) == 0 || a[0] != o.addr && o.liar == nil {
			stale[b]++
		}
		c.allEntries++
		if o.liar != nil {
			c.attackers++
			bad++
		}
	})
	c.badMost = max(c.badMost, bad)
	for b := range fill {
		if fill[b] >= k {
			c.entries += fill[b]
			c.stale += stale[b]
		} else {
			c.thin += fill[b]
			c.staleThin += stale[b]
		}
		if b == 64 {
			continue
		}
		if lo, hi := servers.bucket(top(n.nid), b); hi-lo >= nearest {
			c.fillable++
			if fill[b] >= k {
				c.full++
			}
		}
	}
	st := n.m.Stats()
	c.contacts = append(c.contacts, int64(st.Contacts))
	c.size = append(c.size, int64(1000*(float64(st.Nodes)/float64(len(servers.who))-1)))
	if n.nat {
		return
	}
	c.records, c.recordBytes = append(c.records, int64(st.Records)), append(c.recordBytes, int64(st.RecordBytes))
	near, got, holding := 0, 0, int64(0)
	rec := n.m.Record()
	for _, o := range servers.closest(n.nid, nearest+1) {
		if o == n.id || near == nearest {
			continue
		}
		near++
		if known[o] {
			got++
		}
		if m := s.nodes[o].m; m != nil && rec != nil {
			if r := m.Holds(clock(at), n.nid); r != nil && r.Seq == rec.Seq {
				holding++
			}
		}
	}
	c.nodes++
	if got >= min(near, nearest-1) {
		c.know++
	}
	if published, _ := n.m.Own(); rec != nil && clock(at).Sub(rec.IssuedAt) >= hourOld && !published.IsZero() && published.After(rec.IssuedAt) {
		c.agents += int64(near)
		c.overlap += holding
	}
}
