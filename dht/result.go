package dht

import (
	"net/netip"
	"time"
)

// Result is what a lookup found and the way to it. A lookup that fails returns
// its Trace with the error.
type Result struct {
	Record  *Record // verified and current; nil if none was found
	Holders int     // distinct nodes that hold exactly this record, this node included
	Trace   []Step  // in the order of the answers
	Took    time.Duration
}

// Addrs are the addresses of the record; none without one.
func (r *Result) Addrs() []netip.AddrPort {
	if r == nil || r.Record == nil {
		return nil
	}
	return r.Record.Addrs
}

// Answer is what a step of a lookup brought.
type Answer string

const (
	AnswerRecord Answer = "record" // the record looked for
	AnswerCloser Answer = "closer" // contacts that were not known yet
	AnswerNone   Answer = "none"   // nothing new
	AnswerFailed Answer = "failed" // no valid answer: see Step.Err
)

// Step is one question of a lookup.
type Step struct {
	Key      Key
	Addrs    []netip.AddrPort
	Path     int // of the disjoint paths, from 0
	Hop      int // 1 for contacts that this node knew, 2 for those they named, ...
	Answer   Answer
	Contacts int // new ones that were taken from the answer
	Seq      uint64
	Err      string
	Start    time.Duration // since the lookup began
	Took     time.Duration
}

// step is a Step as a lookup keeps it.
type step struct {
	who         // as it was asked
	path        uint8
	contacts    uint8
	hop         uint16
	answer      Answer
	seq         uint64
	err         error
	start, took time.Duration
}

func (l *lookup) step(now time.Time, n *node, f flight) step {
	return step{who: n.who, path: n.path, hop: n.hop, start: f.asked, took: now.Sub(l.start) - f.asked}
}

// route is what Result.Trace says.
func (l *lookup) route() []Step {
	steps := make([]Step, len(l.trace))
	for i := range l.trace {
		s := &l.trace[i]
		steps[i] = Step{Key: s.key(), Addrs: s.ref().Addresses(), Path: int(s.path), Hop: int(s.hop), Answer: s.answer,
			Contacts: int(s.contacts), Seq: s.seq, Start: s.start, Took: s.took}
		if s.err != nil {
			steps[i].Err = s.err.Error()
		}
	}
	return steps
}

// result is the Result of this moment, but for the Trace.
func (l *lookup) result(now time.Time) *Result {
	return &Result{Record: l.best, Holders: l.holders, Took: now.Sub(l.start)}
}

// Stats is a DHT's state for people and tests.
type Stats struct {
	Contacts     int // live nodes in the routing table
	Replacements int // known, not yet checked
	Buckets      int // that hold contacts
	Records      int // kept for others
	RecordBytes  int
	Floors       int
	Lookups      uint64 // begun since the start, the node's own included
	Calls        uint64 // made to others
	Failed       uint64 // of these
	Served       uint64 // requests of others answered
	Refused      uint64 // requests of others that were malformed
	Ready        bool
	// ReadBackUntil is when the record that others were last seen to have ends.
	ReadBackUntil time.Time
	Server        bool      // this node can be dialled; false: it takes part as a client
	Proven        bool      // Server is what others found out by dialling it, and no guess
	Seq           uint64    // of the own record; 0 if none was made
	Published     time.Time // when others last took the own record
	Holders       int       // how many took it
	// PublishError is why the last attempt to publish failed, nil if it did not.
	// A *ClockError says that this machine's clock is wrong.
	PublishError error
	// ClockOff is this machine's clock minus the others' (median of the last
	// answers); 0 while fewer than 3 nodes have answered.
	ClockOff time.Duration
	// Nodes estimates the size of the network from the density around positions
	// chosen at random.
	Nodes      int
	Entries    int // public entries kept for others
	EntryBytes int
	Session    time.Duration // how long a node stays, estimated: the median
	Late       time.Duration // how late the DHT's own loop runs, smoothed: a busy machine
	OwnCalls   int           // how many calls at once it therefore makes of its own accord
	UplinkDown time.Time     // since when nobody answers; zero: somebody does
	// PublishTook is how long the last publication took until 12 nodes had it.
	PublishTook time.Duration
}
