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
