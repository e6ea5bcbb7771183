package control

import "time"

// WatchQuery chooses what Watch tells of.
type WatchQuery struct {
	DNA string // as in Call
	// Buffer is how many signals are kept for one who does not read them in time, as
	// far as they have 1 MiB together; 0: 1,024, at most 16,384.
	Buffer int
}

// Signal is what a handler has emitted.
type Signal struct {
	Seq  uint64    `json:"seq"` // counts the DNA's from 1 at the node's start
	Time time.Time `json:"time"`
	DNA  string    `json:"dna"`
	// Payload is opaque to the node. The SDK's is msgpack.
	Payload []byte `json:"-"`
	// Lost counts the signals that were dropped for this client since the one before.
	Lost uint64 `json:"lost,omitempty"`
	// Began is of the first of a Watch, which is no signal: Seq is the number of the
	// last one before.
	Began bool `json:"-"`
}
