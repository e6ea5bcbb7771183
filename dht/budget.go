package dht

import (
	"time"
)

// Limits on what one peer may have of this node.
const (
	answerBurst  = 256 << 10 // bytes of answers
	answerRate   = 16 << 10  // per second
	verifyBurst  = 512       // signatures of what it PUTs
	verifyRate   = 16
	verifyAll    = 2000 // of all peers
	verifyAllPer = 500
	learnBurst   = 5 // records that an agent sends of itself
	learnRate    = 1.0 / 10
	maxBudgets   = 4096 // peers
)

// tokens is a token bucket (RFC 2697 has the idea): tokens up to a burst, refilled
// at a rate.
type tokens struct {
	left float64
	at   time.Time
}

// take takes n tokens if they are there, else it says how long to wait for them.
func (t *tokens) take(now time.Time, n, burst, rate float64) time.Duration {
	if t.at.IsZero() {
		t.left = burst
	} else {
		t.left = min(burst, t.left+rate*now.Sub(t.at).Seconds())
	}
	t.at = now
	if t.left < n {
		return time.Duration((n - t.left) / rate * float64(time.Second))
	}
	t.left -= n
	return 0
}

// budget is what one peer has left.
type budget struct{ answers, verify, backs, learnt tokens }

// budgets are the peers' budgets. Who has not asked for a minute has a full one
// and is forgotten. A peer beyond maxBudgets shares one with the others there.
type budgets struct {
	peers map[Key]*budget
	other budget
	all   tokens // signatures
}

func (b *budgets) of(k Key) *budget {
	p := b.peers[k]
	if p != nil {
		return p
	}
	if len(b.peers) >= maxBudgets {
		return &b.other
	}
	if b.peers == nil {
		b.peers = map[Key]*budget{}
	}
	p = &budget{}
	b.peers[k] = p
	return p
}

func (b *budgets) sweep(now time.Time) {
	for k, p := range b.peers {
		if now.Sub(p.answers.at) > time.Minute && now.Sub(p.verify.at) > time.Minute && now.Sub(p.backs.at) > backBurst/backRate*time.Second &&
			now.Sub(p.learnt.at) > learnBurst/learnRate*time.Second {
			delete(b.peers, k)
		}
	}
}

// mayVerify takes one signature off the budgets.
func (b *budgets) mayVerify(now time.Time, k Key) time.Duration {
	if w := b.of(k).verify.take(now, 1, verifyBurst, verifyRate); w > 0 {
		return w
	}
	return b.all.take(now, 1, verifyAll, verifyAllPer)
}
