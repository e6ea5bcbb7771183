package dht

import "time"

const (
	paceFirst = 16 // calls at once of the node's own accord, to begin with
	paceLeast = 2
	paceLate  = 50 * time.Millisecond  // a loop that runs later than this is on a machine with too much to do
	paceCut   = 250 * time.Millisecond // between two cuts: what was begun before the first must end
	paceSlack = 8                      // how many times its own lateness a node waits longer for others
	maxSlack  = 3 * time.Second
)

// pace bounds the calls that a node makes of its own accord, for its table and its
// record, by how busy its machine is. What tells is how late its own loop runs when
// something has woken it or its timer was due: that no silent peer can bring about,
// and a machine that is late itself has no reason to blame others. Additive increase,
// multiplicative decrease (Chiu and Jain 1989); what users ask for is not held up.
type pace struct {
	most  int // Config.MaxCalls
	limit int // 0: not yet used
	cut   time.Time
	late  time.Duration // smoothed over 8 samples
}

// ran notes that the loop runs lag later than it should.
func (p *pace) ran(now time.Time, lag time.Duration) {
	lag = min(max(lag, 0), maxSlack)
	p.late += (lag - p.late) / 8
	if lag > paceLate && now.Sub(p.cut) >= paceCut {
		p.cut = now
		p.limit = max(p.allowed()/2, paceLeast)
	}
}

// answered notes that a call has been answered: room for one more, while the loop
// runs in time.
func (p *pace) answered() {
	if p.late < paceLate/2 {
		p.limit = min(p.allowed()+1, p.most)
	}
}

// allowed is how many of the node's own calls may be under way.
func (p *pace) allowed() int {
	if p.limit == 0 {
		p.limit = min(paceFirst, p.most)
	}
	return p.limit
}

// slack is how much longer than usual an answer may take: the machine may have been
// too busy to take it, and that of a neighbour to give it.
func (p *pace) slack() time.Duration { return min(paceSlack*p.late, maxSlack) }
