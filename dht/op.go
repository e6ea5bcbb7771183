package dht

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

type opKind uint8

const (
	opGet      opKind = iota // a user's lookup
	opSelf                   // the nodes nearest to this one: joins the network
	opRefresh                // the nodes of a bucket's range
	opPublish                // find the nodes that are to keep the own record, PUT it
	opReadback               // the own record, from others
	opPutEntry               // find the nodes that are to keep an entry, PUT it
	opGetEntry
	opKinds
)

const putsAtOnce = 16

// op is a lookup and what follows from it.
type op struct {
	kind     opKind
	verify   func(*Record) error // nil: Record.Verify
	lookup   *lookup
	strict   bool // all who could have it are asked
	hardened bool // over more paths
	around   bool // it goes around its target from its beginning
	wide     bool // the paths to the target itself have ended: see core.widen
	better   bool // lookup.best changed since the loop last looked

	// what is put
	rec     *Record
	entry   []byte
	radius  float64      // who answers within it is asked at once
	asked   map[Key]bool // to keep it
	chosen  bool         // the lookup is over: the others are chosen
	puts    []Contact    // still to be asked
	pending int
	holders int
	took    time.Duration   // until ackShare of the holders had it; 0: never
	newer   uint64          // highest seq of our own that a holder knows
	clock   []time.Duration // offsets told by those who refuse the record for the clock
	errs    []error

	user     *MachineLookup // of a simulation; else nil
	finished bool
	result   *Result
	err      error
}

// byUser tells whether somebody waits for it.
func (o *op) byUser() bool { return o.kind == opGet || o.kind == opPutEntry || o.kind == opGetEntry }

func (o *op) putting() bool { return o.rec != nil || o.entry != nil }

// ready tells whether all that op wanted is done.
func (o *op) ready() bool {
	if !o.lookup.done() || !o.wide {
		return false
	}
	return !o.putting() || o.chosen && len(o.puts) == 0 && o.pending == 0
}

// choose adds nodes to those that are asked to keep what is put.
func (o *op) choose(nodes []*node) {
	for _, n := range nodes {
		if n.state == nodeAnswered && !o.asked[n.key()] {
			o.asked[n.key()] = true
			o.puts = append(o.puts, n.contact())
		}
	}
}

// nextPuts appends at most room PUTs to out, to make now.
func (o *op) nextPuts(room int, out []query) []query {
	for ; room > 0 && len(o.puts) > 0 && o.pending < putsAtOnce; room-- {
		timeout, _ := o.lookup.patience(o.puts[0].Key)
		out = append(out, query{to: o.puts[0], req: &Request{Op: OpPut, Record: o.rec, Entry: o.entry}, timeout: timeout})
		o.puts = o.puts[1:]
		o.pending++
	}
	return out
}

// putAnswered takes the answer to a PUT.
func (o *op) putAnswered(now time.Time, from Key, resp *Response, off time.Duration) {
	o.pending--
	switch resp.Status {
	case StatusOK:
		if o.holders++; o.holders == ackShare {
			o.took = now.Sub(o.lookup.start)
		}
		return
	case StatusNewer:
		if r := resp.Record; r != nil && o.rec != nil && r.Key == o.rec.Key && o.check(r) == nil {
			o.newer = max(o.newer, r.Seq)
		}
	case StatusFuture, StatusExpired:
		if resp.Time != 0 {
			o.clock = append(o.clock, off)
		}
	}
	o.errs = append(o.errs, fmt.Errorf("%s refuses it: %s", from, resp.Status))
}

func (o *op) check(r *Record) error {
	if o.verify == nil {
		return r.Verify()
	}
	return o.verify(r)
}

func (o *op) putFailed(k Key, err error) {
	o.pending--
	o.errs = append(o.errs, fmt.Errorf("%s: %w", k, err))
}

// publishError is why nobody, or too few, took what was put; nil if enough did.
func (o *op) publishError() error {
	if len(o.clock) > o.holders {
		return &ClockError{Off: median(o.clock), Peers: len(o.clock)}
	}
	if o.holders > 0 {
		return nil
	}
	if len(o.errs) == 0 {
		return ErrNoAnswer
	}
	return errors.Join(o.errs...)
}

func median(ds []time.Duration) time.Duration {
	ds = slices.Clone(ds)
	slices.Sort(ds)
	return ds[len(ds)/2]
}
