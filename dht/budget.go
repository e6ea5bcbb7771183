package dht

import (
	"net/netip"
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
type budget struct{ answers, verify, backs, syncs, learnt tokens }

func (b *budget) full(now time.Time) bool {
	return b.answers.full(now, answerBurst, answerRate) && b.verify.full(now, verifyBurst, verifyRate) &&
		b.backs.full(now, backBurst, backRate) && b.syncs.full(now, syncBurst, syncRate) && b.learnt.full(now, learnBurst, learnRate)
}

// budgets are the peers' budgets. Whose is nearly full is forgotten whenever their
// number has doubled. Peers beyond maxBudgets that have all used theirs share one.
type budgets struct {
	peers   map[Key]*budget
	sweepAt int       // peers; 0: fewBudgets
	spare   []*budget // to be used again, at most fewBudgets
	other   budget
	nets    map[netip.Prefix]*tokens // dial-backs for narrow networks, at most maxBudgets
	swept   time.Time
	known   tokens // signatures of all contacts of the table
	unknown tokens // of all others
}

func (b *budgets) of(now time.Time, k Key) *budget {
	p := b.peers[k]
	if p != nil {
		return p
	}
	if n := len(b.peers); n >= max(b.sweepAt, fewBudgets) && (n < maxBudgets || now.Sub(b.swept) >= time.Second) {
		b.sweep(now)
		b.sweepAt = min(2*len(b.peers), maxBudgets)
	}
	if len(b.peers) >= maxBudgets {
		return &b.other
	}
	if b.peers == nil {
		b.peers = map[Key]*budget{}
	}
	if n := len(b.spare); n > 0 {
		p, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		p = &budget{}
	}
	b.peers[k] = p
	return p
}

func (b *budgets) sweep(now time.Time) {
	b.swept = now
	for k, p := range b.peers {
		if p.full(now) {
			delete(b.peers, k)
			if len(b.spare) < fewBudgets {
				*p = budget{}
				b.spare = append(b.spare, p)
			}
		}
	}
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
	return b.of(now, k).backs.take(now, 1, backBurst, backRate)
}

// mayVerify takes one signature off the budgets.
func (b *budgets) mayVerify(now time.Time, k Key, contact bool) time.Duration {
	if w := b.of(now, k).verify.take(now, 1, verifyBurst, verifyRate); w > 0 {
		return w
	}
	if contact {
		return b.known.take(now, 1, verifyAll, verifyAllPer)
	}
	return b.unknown.take(now, 1, verifyAll, verifyAllPer)
}

// forged takes what a forged signature costs its sender besides.
func (b *budgets) forged(now time.Time, k Key) {
	v := &b.of(now, k).verify
	v.left = max(0, v.left-forgedCost)
}
