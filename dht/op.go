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
	opPublish                // find the nodes nearest to this one, PUT the own record
	opReadback               // the own record, from others
	opKinds
)

const putsAtOnce = 8

// op is a lookup and what follows from it.
type op struct {
	kind   opKind
	verify func(*Record) error // nil: Record.Verify
	lookup *lookup
	better bool // lookup.best changed since the loop last looked

	// publish
	rec     *Record   // what is put
	putting bool      // the lookup is over
	puts    []Contact // still to be asked
	pending int
	holders int
	newer   uint64          // highest seq of our own that a holder knows
	clock   []time.Duration // offsets told by those who refuse the record for the clock
	errs    []error

	user     *MachineLookup // of a simulation; else nil
	finished bool
	result   *Result
	err      error
}

// ready tells whether all that op wanted is done.
func (o *op) ready() bool {
	if !o.lookup.done() {
		return false
	}
	return o.kind != opPublish || o.putting && len(o.puts) == 0 && o.pending == 0
}

// nextPuts returns at most room PUTs to make now.
func (o *op) nextPuts(room int) []query {
	if o.kind != opPublish || !o.lookup.done() {
		return nil
	}
	if !o.putting {
		o.putting, o.puts = true, o.lookup.closest(bucketSize)
	}
	var out []query
	for len(out) < room && len(o.puts) > 0 && o.pending < putsAtOnce {
		timeout, _ := o.lookup.patience(o.puts[0].Key)
		out = append(out, query{to: o.puts[0], req: &Request{Op: OpPut, Record: o.rec}, timeout: timeout})
		o.puts = o.puts[1:]
		o.pending++
	}
	return out
}

// putAnswered takes the answer to a PUT.
func (o *op) putAnswered(from Key, resp *Response, off time.Duration) {
	o.pending--
	switch resp.Status {
	case StatusOK:
		o.holders++
		return
	case StatusNewer:
		if r := resp.Record; r != nil && r.Key == o.rec.Key && o.check(r) == nil {
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

// publishError is why nobody, or too few, took the record; nil if enough did.
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
