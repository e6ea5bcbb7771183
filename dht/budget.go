package dht

import (
	"net/netip"
	"slices"
	"time"
)

// Limits on what one peer may have of this node.
const (
	answerBurst  = 256 << 10 // bytes of answers
	answerRate   = 16 << 10  // per second
	verifyBurst  = 512       // signatures of what it PUTs
	verifyRate   = 16
	verifyAll    = 1000 // of all contacts, and of all others
	verifyAllPer = 250
	forgedCost   = 16
	syncBurst    = 4
	syncRate     = 1.0 / 60
	learnBurst   = 5 // records that an agent sends of itself
	learnRate    = 1.0 / 10
	maxBudgets   = 4096 // peers
	fewBudgets   = 8    // not worth a sweep
	listed       = 32   // not worth a map
)

// tokens is a token bucket (RFC 2697 has the idea): tokens up to a burst, refilled
// at a rate.
type tokens struct {
	left float64
	at   int64 // Unix time in ns when left was counted; 0: never, it is full
}

// filled is what there is at now.
func (t *tokens) filled(now int64, burst, rate float64) float64 {
	if t.at == 0 {
		return burst
	}
	return min(burst, t.left+rate*float64(max(now-t.at, 0))/float64(time.Second)) // a clock can be set back
}

// take takes n tokens if they are there, else it says how long to wait for them.
func (t *tokens) take(now time.Time, n, burst, rate float64) time.Duration {
	at := now.UnixNano()
	t.left, t.at = t.filled(at, burst, rate), at
	if t.left < n {
		return time.Duration((n - t.left) / rate * float64(time.Second))
	}
	t.left -= n
	return 0
}

// has tells whether n tokens are there.
func (t *tokens) has(now time.Time, n, burst, rate float64) bool {
	return t.filled(now.UnixNano(), burst, rate) >= n
}

// owe takes n tokens off, also those that are still to come.
func (t *tokens) owe(now time.Time, n, burst, rate float64) {
	t.take(now, 0, burst, rate)
	t.left -= n
}

// full tells whether the bucket would be nearly full at now: nothing is lost with it.
func (t *tokens) full(now time.Time, burst, rate float64) bool {
	return t.filled(now.UnixNano(), burst, rate) >= .9*burst
}

// budget is what one peer has left.
type budget struct {
	answers tokens
	rest    *rest // nil: all of it
}

// rest is what few peers use.
type rest struct{ verify, backs, syncs, learnt tokens }

func (b *budget) other() *rest {
	if b.rest == nil {
		b.rest = &rest{}
	}
	return b.rest
}

func (b *budget) full(now time.Time) bool {
	return b.answers.full(now, answerBurst, answerRate) && (b.rest == nil || b.rest.full(now))
}

func (r *rest) full(now time.Time) bool {
	return r.verify.full(now, verifyBurst, verifyRate) && r.backs.full(now, backBurst, backRate) &&
		r.syncs.full(now, syncBurst, syncRate) && r.learnt.full(now, learnBurst, learnRate)
}

// budgets are the peers' budgets. Whose is nearly full is forgotten whenever their
// number has doubled. Peers beyond maxBudgets that have all used theirs share one.
type budgets struct {
	heads   []uint64      // Key.hash of each of peers: most have few, which are found by these
	peers   []peer        // at most maxBudgets
	places  map[Key]int32 // of peers; nil while they are no more than listed
	sweepAt int           // peers; 0: fewBudgets
	swept   time.Time
	known   tokens // signatures of all contacts of the table
	unknown tokens // of all others
	other   budget
	nets    map[netip.Prefix]*tokens // dial-backs for narrow networks, at most maxBudgets
}

type peer struct {
	key Key
	budget
}

// find returns the budget of k, nil if it has none of its own. It may be used until of is called again.
func (b *budgets) find(k Key) *budget {
	if b.places != nil {
		if i, ok := b.places[k]; ok {
			return &b.peers[i].budget
		}
		return nil
	}
	head := k.hash()
	for i, h := range b.heads {
		if h == head && b.peers[i].key == k {
			return &b.peers[i].budget
		}
	}
	return nil
}

// of is find that begins a budget where there is none.
func (b *budgets) of(now time.Time, k Key) *budget {
	if p := b.find(k); p != nil {
		return p
	}
	if n := len(b.peers); n >= max(b.sweepAt, fewBudgets) && (n < maxBudgets || now.Sub(b.swept) >= time.Second) {
		b.sweep(now)
		b.sweepAt = min(2*len(b.peers), maxBudgets)
	}
	n := len(b.peers)
	if n >= maxBudgets {
		return &b.other
	}
	b.heads, b.peers = append(b.heads, k.hash()), append(b.peers, peer{key: k})
	if b.places != nil {
		b.places[k] = int32(n)
	} else if n >= listed {
		b.place()
	}
	return &b.peers[n].budget
}

// place makes heads and places anew.
func (b *budgets) place() {
	b.heads, b.places = b.heads[:0], nil
	if len(b.peers) > listed {
		b.places = make(map[Key]int32, 2*len(b.peers))
	}
	for i := range b.peers {
		k := b.peers[i].key
		if b.heads = append(b.heads, k.hash()); b.places != nil {
			b.places[k] = int32(i)
		}
	}
}

func (b *budgets) sweep(now time.Time) {
	b.swept = now
	b.peers = slices.DeleteFunc(b.peers, func(p peer) bool { return p.full(now) })
	b.place()
	for n, t := range b.nets {
		if t.full(now, backNetBurst, backNetRate) {
			delete(b.nets, n)
		}
	}
}

// mayDialBack takes one dial-back off the budgets of a peer and of the network that
// it comes from, where that is one.
func (b *budgets) mayDialBack(now time.Time, k Key, net netip.Prefix) time.Duration {
	if net.IsValid() {
		t := b.nets[net]
		if t == nil {
			if b.nets == nil {
				b.nets = map[netip.Prefix]*tokens{}
			}
			if len(b.nets) >= maxBudgets && now.Sub(b.swept) >= time.Second {
				b.sweep(now)
			}
			if len(b.nets) >= maxBudgets {
				return dialBackLimit
			}
			t = &tokens{}
			b.nets[net] = t
		}
		if w := t.take(now, 1, backNetBurst, backNetRate); w > 0 {
			return w
		}
	}
	return b.of(now, k).other().backs.take(now, 1, backBurst, backRate)
}

// mayVerify takes one signature off the budgets.
func (b *budgets) mayVerify(now time.Time, k Key, contact bool) time.Duration {
	if w := b.of(now, k).other().verify.take(now, 1, verifyBurst, verifyRate); w > 0 {
		return w
	}
	if contact {
		return b.known.take(now, 1, verifyAll, verifyAllPer)
	}
	return b.unknown.take(now, 1, verifyAll, verifyAllPer)
}

// forged takes what a forged signature costs its sender besides.
func (b *budgets) forged(now time.Time, k Key) {
	v := &b.of(now, k).other().verify
	v.left = max(0, v.left-forgedCost)
}
