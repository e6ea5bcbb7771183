package dht

import (
	"math"
	"slices"
	"time"
)

// A lookup asks ever nearer nodes for a target, over paths that are disjoint: a
// node is asked once in all, and what it names is known to the path only that
// asked it (S/Kademlia, Baumgart and Mies 2007). So one liar leads one path astray.
//
// It is pure: next says whom to ask, answered and failed take what came.
//
// What it does at each step looks at its nodes one after the other: there are 20 to 100 of
// them, small and side by side. Liars can make them more, at most maxNew for each of maxAsked
// answers of a path. A *node is good until the next one is named.
type lookup struct {
	lookupConfig
	start   time.Time
	nodes   []node   // as they were named
	tops    []uint64 // ID.top of each node: most of what is named is sought there, and it is in few lines of memory
	flying  []flight // those that are asked, as they were
	misses  int      // see missed
	paths   []path
	best    *Record // the newest verified record
	entry   []byte  // the body of the entry, checked
	holders int     // of best, or entry: this node may be one, the others have node.holds
	trace   []step  // as they answered
	replies int
	dials   []tallied // contacts asked that the table does not have, by group
	ended   bool
}

type lookupConfig struct {
	host
	self     Key
	target   ID
	get      bool   // ask for the record, not for nodes alone
	brief    bool   // it asks for contacts that are not known yet, nobody waits for it
	letGo    bool   // of who has to be dialled and is silent, see content
	dialAll  bool   // Ablation.LeaveAlone
	onlyHeld bool   // Ablation.Holders
	known    uint64 // seq of the record that is known already
	paths    int
	alpha    int     // calls in flight per path; 0: alpha
	maxNew   int     // contacts taken of one response; 0: maxNew
	quorum   int     // holders after which a get ends; 0: only when the paths end
	minSeq   uint64  // a record below it does not count
	region   float64 // the radius around the target within which the holders are; 0: see enough
	group    GroupFunc
	verify   func(*Record) error
	check    func([]byte) bool // the body of the entry looked for; nil: a record is
}

// host is what a lookup asks of the node that it belongs to.
type host interface {
	patience(Key) (timeout, hedge time.Duration)
	wait() time.Duration                             // for who has to be dialled
	isDead(at time.Time, c *Contact, by uint32) bool // it failed a moment ago, as by names it
	contact(ID) (c Contact, called, ok bool)         // what the table knows: see entry.called
	network(Contact) uint32                          // of who names others
}

// query is one call that a lookup wants.
type query struct {
	to      Contact
	req     *Request
	timeout time.Duration
}

// There is room for so many nodes beside those that a lookup starts from, of all paths and of one:
// few need more.
const (
	nodesMore = 32
	listMore  = 16
)

func newLookup(now time.Time, cfg lookupConfig, seeds []seed) *lookup {
	if cfg.alpha == 0 {
		cfg.alpha = alpha
	}
	if cfg.maxNew == 0 {
		cfg.maxNew = maxNew
	}
	l := &lookup{lookupConfig: cfg, start: now, nodes: make([]node, 0, len(seeds)+nodesMore), tops: make([]uint64, 0, len(seeds)+nodesMore),
		paths: make([]path, cfg.paths), flying: make([]flight, 0, cfg.alpha*cfg.paths), trace: make([]step, 0, 8)}
	each := len(seeds)/cfg.paths + 1 + listMore
	lists := make([]int32, cfg.paths*each)
	for i := range l.paths {
		l.paths[i] = path{target: cfg.target, width: bucketSize, list: lists[i*each : i*each : (i+1)*each]}
	}
	for i, n := range l.sorted(seeds, &cfg.target) {
		l.add(&l.paths[i%len(l.paths)], n)
	}
	return l
}

// widen adds a path to a target beside the lookup's own. It starts from those of
// seeds that nobody has asked, and ends by those that it asks itself: a crowd that
// answered at the lookup's target is near this one too, and would end it at once.
func (l *lookup) widen(target ID, width int, seeds []seed) {
	p := path{target: target, width: width, apart: true, number: uint8(len(l.paths))}
	for _, i := range l.sorted(seeds, &target) {
		if l.nodes[i].state == nodeNew {
			l.add(&p, i)
		}
	}
	l.paths = append(l.paths, p)
}

// forged forgets a node whose record turned out to be forged when it was to be
// asked. Others may name it rightly.
func (l *lookup) forged(k Key) {
	f, ok := l.land(&k)
	if !ok {
		return
	}
	l.nodes[f.node].state = nodeForged
	for i := range l.paths {
		p := &l.paths[i]
		p.list = slices.DeleteFunc(p.list, func(n int32) bool { return n == f.node })
	}
}

// next appends at most room calls to out, to make now.
func (l *lookup) next(now time.Time, room int, out []query) []query {
	at := now.Sub(l.start)
	for most := len(out) + room; len(out) < most && !l.done(); {
		before := len(out)
		for i := range l.paths {
			if len(out) < most && l.inFlight(at, i) < l.alpha {
				if n := l.pick(at, &l.paths[i]); n >= 0 {
					out = append(out, l.ask(at, i, n))
				}
			}
		}
		if len(out) == before {
			break
		}
	}
	return out
}

func (l *lookup) ask(at time.Duration, path int, i int32) query {
	n, p := &l.nodes[i], &l.paths[path]
	q := query{to: n.contact(), req: &Request{Op: OpFind, Target: p.target}}
	timeout, hedge := l.patience(q.to.Key)
	q.timeout = timeout
	n.state, n.path, n.over = nodeAsked, uint8(path), false
	f := flight{key: q.to.Key.top(), node: i, path: int32(path), asked: at, hedge: at + hedge, until: math.MaxInt64}
	if l.letGo && !n.known {
		f.until = at + min(l.wait(), timeout)
	}
	l.flying = append(l.flying, f)
	p.asked++
	if l.brief {
		q.req.Known = l.nearestKnown(&p.target)
	}
	if l.get {
		q.req.Op, q.req.KnownSeq, q.req.Target = OpGet, l.known, l.target
		if p.target != l.target {
			q.req.Near = p.target
		}
	}
	return q
}

// satisfied tells whether it has found what it looks for.
func (l *lookup) satisfied() bool {
	return l.ended || l.quorum > 0 && l.holders >= l.quorum
}

func (l *lookup) done() bool {
	if l.satisfied() {
		return true
	}
	content := l.content()
	for i := range l.paths {
		if !l.finished(&l.paths[i], content) {
			return false
		}
	}
	return true
}

// answered takes a valid response of k. It returns k's node, nil if it was not asked, and whether
// best is a better record now.
func (l *lookup) answered(now time.Time, k Key, resp *Response) (from *node, better bool) {
	f, ok := l.land(&k)
	if !ok {
		return nil, false
	}
	n := &l.nodes[f.node]
	n.state = nodeAnswered
	l.replies++
	s := l.step(now, n, f)
	if l.get {
		switch rec := resp.Record; {
		case l.check != nil:
			l.found(n, resp)
		case rec != nil && resp.Status == StatusOK:
			better = l.record(now, n, rec)
			n.gave, s.seq = rec.Seq, rec.Seq
		case resp.Status == StatusNotNewer && l.best != nil && l.best.Seq == l.known:
			l.hold(n)
		}
	}
	taken := l.take(now, f.node, resp.Contacts, &better)
	n = &l.nodes[f.node] // they have moved
	s.contacts = uint8(taken)
	switch {
	case n.holds:
		s.answer = AnswerRecord
	case taken > 0:
		s.answer = AnswerCloser
	default:
		s.answer = AnswerNone
	}
	if !n.holds {
		l.missed(f.node)
	}
	l.trace = append(l.trace, s)
	return n, better
}

// record weighs a record that holder has, or that one who is not (nil) has named. Only a verified,
// current one of the target counts.
func (l *lookup) record(now time.Time, holder *node, rec *Record) bool {
	if rec.position() != l.target || rec.Seq < l.minSeq || rec.Current(now) != nil {
		return false
	}
	if l.best != nil && string(l.best.raw) == string(rec.raw) {
		l.hold(holder)
		return false
	}
	if !rec.newer(l.best) || l.verify(rec) != nil {
		return false
	}
	l.best, l.holders = rec, 0
	for i := range l.nodes {
		l.nodes[i].holds = false
	}
	l.hold(holder)
	return true
}

// hold counts n, if it is one, among the holders.
func (l *lookup) hold(n *node) {
	if n != nil && !n.holds {
		n.holds = true
		l.holders++
	}
}

// found weighs the body of an entry. An entry never changes: the first good one ends the lookup.
func (l *lookup) found(holder *node, resp *Response) {
	if resp.Status != StatusOK || resp.Entry == nil || !l.check(resp.Entry) {
		return
	}
	l.entry, l.ended = resp.Entry, true
	l.hold(holder)
}

func (l *lookup) failed(now time.Time, k Key, err error) {
	f, ok := l.land(&k)
	if !ok {
		return
	}
	n := &l.nodes[f.node]
	n.state = nodeFailed
	l.missed(f.node)
	s := l.step(now, n, f)
	s.answer, s.err = AnswerFailed, err
	l.trace = append(l.trace, s)
}
