package dht

import (
	"encoding/binary"
	"slices"
	"time"
)

// A lookup asks ever nearer nodes for a target, over paths that are disjoint: a
// node is asked once in all, and what it names is known to the path only that
// asked it (S/Kademlia, Baumgart and Mies 2007). So one liar leads one path astray.
//
// It is pure: next says whom to ask, answered and failed take what came.
type lookup struct {
	lookupConfig
	start   time.Time
	all     map[Key]*node
	room    []node  // for further ones: made by the dozen
	flying  []*node // who was asked and has neither answered nor failed
	misses  int     // see missed
	paths   []*path
	best    *Record      // the newest verified record
	entry   []byte       // the body of the entry, checked
	holders map[Key]bool // who gave exactly best, or entry
	trace   []Step
	replies int
	dials   map[group]int // contacts asked that the table does not have, by group
	ended   bool
}

type lookupConfig struct {
	self     Key
	target   ID
	get      bool   // ask for the record, not for nodes alone
	known    uint64 // seq of the record that is known already
	brief    bool   // it asks for contacts that are not known yet, nobody waits for it
	paths    int
	alpha    int     // calls in flight per path; 0: alpha
	maxNew   int     // contacts taken of one response; 0: maxNew
	quorum   int     // holders after which a get ends; 0: only when the paths end
	minSeq   uint64  // a record below it does not count
	region   float64 // the radius around the target within which the holders are; 0: see enough
	group    GroupFunc
	verify   func(*Record) error
	check    func([]byte) bool // the body of the entry looked for; nil: a record is
	patience func(Key) (timeout, hedge time.Duration)
	wait     func() time.Duration                  // for who has to be dialled, see content; nil: as long as the call lasts
	dialAll  bool                                  // Ablation.LeaveAlone
	onlyHeld bool                                  // Ablation.Holders
	skip     func(c *Contact, by uint32) bool      // contacts that failed a moment ago, as by names them
	contact  func(ID) (c Contact, called, ok bool) // what the table knows: see entry.called
	network  func(Contact) uint32                  // of who names others
}

// nodesAtOnce is how many nodes are made with one allocation.
const nodesAtOnce = 12

type nodeState uint8

const (
	nodeNew nodeState = iota
	nodeAsked
	nodeAnswered
	nodeFailed
	nodePassed // not asked: too many of its network were
)

type node struct {
	Contact
	id    ID
	hop   int
	state nodeState
	path  int    // that asked it
	again bool   // it is asked a second time, by a newer record
	known bool   // the table has it
	vouch bool   // but nobody has named it yet: see entry.called
	gave  uint64 // seq of the record that it gave
	asked time.Time
	hedge time.Time // after it the path goes on without waiting
	until time.Time // after it the lookup may end without waiting; zero: never
	over  bool      // until is over
}

// query is one call that a lookup wants.
type query struct {
	to      Contact
	req     *Request
	timeout time.Duration
}

func newLookup(now time.Time, cfg lookupConfig, seeds []Contact) *lookup {
	if cfg.alpha == 0 {
		cfg.alpha = alpha
	}
	if cfg.network == nil {
		cfg.network = func(Contact) uint32 { return 0 }
	}
	if cfg.maxNew == 0 {
		cfg.maxNew = maxNew
	}
	l := &lookup{lookupConfig: cfg, start: now, all: make(map[Key]*node, len(seeds)), holders: map[Key]bool{}, trace: make([]Step, 0, 8)}
	for range cfg.paths {
		l.paths = append(l.paths, &path{target: cfg.target, width: bucketSize})
	}
	for i, n := range l.sorted(seeds, cfg.target) {
		l.paths[i%len(l.paths)].add(n)
	}
	return l
}

// sorted are the lookup's nodes for seeds, the nearest to target first.
func (l *lookup) sorted(seeds []Contact, target ID) []*node {
	nodes := make([]*node, 0, len(seeds))
	for _, s := range seeds {
		if n := l.node(&s, s.id(), s.by, 1); n != nil && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return compare(target, a.id, b.id) })
	return nodes
}

// widen adds a path to a target beside the lookup's own. It starts from those of
// seeds that nobody has asked, and ends by those that it asks itself: a crowd that
// answered at the lookup's target is near this one too, and would end it at once.
func (l *lookup) widen(target ID, width int, seeds []Contact) {
	p := &path{target: target, width: width, apart: true, number: len(l.paths)}
	for _, n := range l.sorted(seeds, target) {
		if n.state == nodeNew {
			p.add(n)
		}
	}
	l.paths = append(l.paths, p)
}

// forged forgets a node whose record turned out to be forged when it was to be
// asked. Others may name it rightly.
func (l *lookup) forged(k Key) {
	n := l.all[k]
	if n == nil || n.state != nodeAsked {
		return
	}
	delete(l.all, k)
	l.landed(n)
	for _, p := range l.paths {
		p.list = slices.DeleteFunc(p.list, func(o *node) bool { return o == n })
	}
}

// next returns at most room calls to make now.
func (l *lookup) next(now time.Time, room int) []query {
	var out []query
	for len(out) < room && !l.done() {
		before := len(out)
		for i, p := range l.paths {
			if len(out) < room && l.inFlight(now, i) < l.alpha {
				if n := l.pick(now, p); n != nil {
					out = append(out, l.ask(now, i, n))
				}
			}
		}
		if len(out) == before {
			break
		}
	}
	return out
}

func (l *lookup) ask(now time.Time, path int, n *node) query {
	timeout, hedge := l.patience(n.Key)
	n.state, n.path, n.asked, n.hedge = nodeAsked, path, now, now.Add(hedge)
	if n.until, n.over = (time.Time{}), false; l.wait != nil && !n.known {
		n.until = now.Add(min(l.wait(), timeout))
	}
	p := l.paths[path]
	p.asked++
	l.flying = append(l.flying, n)
	req := &Request{Op: OpFind, Target: p.target}
	if l.brief {
		req.Known = l.nearestKnown(p.target)
	}
	if l.get {
		req.Op, req.KnownSeq, req.Target = OpGet, l.known, l.target
		if p.target != l.target {
			req.Near = p.target
		}
	}
	return query{to: n.Contact, req: req, timeout: timeout}
}

// nearestKnown are the nodes around target that need not be named again: those that answered,
// now or at an earlier time. Who was only named may have been named wrongly, and who has failed may have moved.
func (l *lookup) nearestKnown(target ID) []byte {
	var near []*node
	for _, p := range l.paths {
		for _, n := range p.list[:min(len(p.list), 2*MaxKnown)] {
			if (n.known || n.state == nodeAnswered) && n.state != nodeFailed && !n.vouch && !slices.Contains(near, n) {
				near = append(near, n)
			}
		}
	}
	slices.SortFunc(near, func(a, b *node) int { return compare(target, a.id, b.id) })
	b := make([]byte, 0, MaxKnown*KnownSize)
	for _, n := range near[:min(len(near), MaxKnown)] {
		b = binary.BigEndian.AppendUint64(b, n.id.top())
	}
	return b
}

// satisfied tells whether it has found what it looks for.
func (l *lookup) satisfied() bool {
	return l.ended || l.quorum > 0 && len(l.holders) >= l.quorum
}

func (l *lookup) done() bool {
	if l.satisfied() {
		return true
	}
	content := l.content()
	for _, p := range l.paths {
		if !p.done(content) {
			return false
		}
	}
	return true
}

// wake is when next should be asked again though nothing came.
func (l *lookup) wake(now time.Time) (at time.Time) {
	for _, n := range l.flying {
		for _, t := range [...]time.Time{n.hedge, n.late(), n.until} {
			if t.After(now) && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
	}
	return at
}

// answered takes a valid response of k. It tells whether best is a better record now.
func (l *lookup) answered(now time.Time, k Key, resp *Response) bool {
	n := l.all[k]
	if n == nil || n.state != nodeAsked {
		return false
	}
	n.state = nodeAnswered
	l.landed(n)
	l.replies++
	step := l.step(now, n)
	better := false
	if l.get {
		switch rec := resp.Record; {
		case l.check != nil:
			l.found(k, resp)
		case rec != nil && resp.Status == StatusOK:
			better = l.record(now, k, rec, true)
			n.gave, step.Seq = rec.Seq, rec.Seq
		case resp.Status == StatusNotNewer && l.best != nil && l.best.Seq == l.known:
			l.holders[k] = true
		}
	}
	step.Contacts = l.take(now, n, resp.Contacts, &better)
	switch {
	case l.holders[k]:
		step.Answer = AnswerRecord
	case step.Contacts > 0:
		step.Answer = AnswerCloser
	default:
		step.Answer = AnswerNone
	}
	if !l.holders[k] {
		l.missed(n)
	}
	l.trace = append(l.trace, step)
	return better
}

// record weighs a record that holder gave. Only a verified, current one of the
// target counts.
func (l *lookup) record(now time.Time, holder Key, rec *Record, holds bool) bool {
	if NodeID(rec.Key) != l.target || rec.Seq < l.minSeq || rec.Current(now) != nil {
		return false
	}
	if l.best != nil && string(l.best.raw) == string(rec.raw) {
		if holds {
			l.holders[holder] = true
		}
		return false
	}
	if !rec.newer(l.best) || l.verify(rec) != nil {
		return false
	}
	l.best = rec
	clear(l.holders)
	if holds {
		l.holders[holder] = true
	}
	return true
}

// found weighs the body of an entry. An entry never changes: the first good one ends the lookup.
func (l *lookup) found(holder Key, resp *Response) {
	if resp.Status != StatusOK || resp.Entry == nil || !l.check(resp.Entry) {
		return
	}
	l.entry, l.ended = resp.Entry, true
	l.holders[holder] = true
}

func (l *lookup) failed(now time.Time, k Key, err error) {
	n := l.all[k]
	if n == nil || n.state != nodeAsked {
		return
	}
	n.state = nodeFailed
	l.landed(n)
	l.missed(n)
	step := l.step(now, n)
	step.Answer, step.Err = AnswerFailed, err.Error()
	l.trace = append(l.trace, step)
}

func (l *lookup) step(now time.Time, n *node) Step {
	return Step{Key: n.Key, Addrs: n.Addresses(), Path: n.path, Hop: n.hop, Start: n.asked.Sub(l.start), Took: now.Sub(n.asked)}
}

// nearest returns the k nearest nodes that answered.
func (l *lookup) nearest(k int) []*node {
	var nodes []*node
	for _, n := range l.all {
		if n.state == nodeAnswered {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return compare(l.target, a.id, b.id) })
	return nodes[:min(k, len(nodes))]
}

func (l *lookup) result(now time.Time) *Result {
	return &Result{Record: l.best, Holders: len(l.holders), Trace: l.trace, Took: now.Sub(l.start)}
}
