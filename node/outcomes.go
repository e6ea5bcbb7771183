package node

import (
	"context"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Bounds of the outcomes that are kept in memory. A sender has at most
// transport.Config.MaxRequests requests without an answer. When its session
// breaks, no new ones arrive over it, so that whatever it may repeat is among
// the outcomestore's newest entries of that sender: outcomesPerSender only has
// to exceed that limit.
const (
	outcomesPerSender = 4096
	outcomesTotal     = 1 << 17
	outcomesBytes     = 64 << 20
	// runningPerSender bounds a sender's receives that run. Its sessions' limits
	// alone do not: a receive goes on when its session breaks.
	runningPerSender = 1024
	// outcomesAge exceeds the longest time for which a message is repeated.
	outcomesAge = 15 * time.Minute
	// repeatsFree is how often one message that runs may wait for its own outcome
	// without being counted against its sender's limits: sent again over a new session,
	// it takes the place of the one that came over the broken session, which is counted.
	repeatsFree = 8
)

// messageKey names a message. The sender is part of it: an id that another
// agent draws, or copies, is another message.
type messageKey struct {
	from sdk.AgentID
	dna  sdk.DNAHash
	id   sdk.MessageID
}

// outcome is how one received message ended, or will end.
type outcome struct {
	key messageKey
	// running ends the running receive's context; nil once it has ended.
	running canceler
	done    chan struct{} // closed when reply and err are final; nil while nobody waits

	// Written once, before done is closed.
	reply []byte
	err   *sdk.Error

	ended   time.Time // zero while it runs
	size    int       // of reply and err, bytes
	dropped bool      // both were given up for room
	payload int       // the first arrival's, bytes
	repeats int       // arrivals that have waited for it while it ran, and are not counted
	held    bool      // it is in outcomes.replies
	links   [3]struct{ prev, next *outcome }
}

// canceler ends a context: a *transport.Request, or a cancelFunc.
type canceler interface{ Cancel(cause error) }

type cancelFunc context.CancelCauseFunc

func (f cancelFunc) Cancel(cause error) { f(cause) }

// outcomeList is a list of outcomes, oldest first. An outcome can be in one of
// each kind.
type outcomeList struct {
	kind        int
	first, last *outcome
	n           int
}

const (
	byAge = iota
	bySender
	byReply
)

func (l *outcomeList) push(o *outcome) {
	o.links[l.kind].prev = l.last
	if l.last == nil {
		l.first = o
	} else {
		l.last.links[l.kind].next = o
	}
	l.last = o
	l.n++
}

func (l *outcomeList) remove(o *outcome) {
	at := &o.links[l.kind]
	if at.prev == nil {
		l.first = at.next
	} else {
		at.prev.links[l.kind].next = at.next
	}
	if at.next == nil {
		l.last = at.prev
	} else {
		at.next.links[l.kind].prev = at.prev
	}
	at.prev, at.next = nil, nil
	l.n--
}

// replace puts rest, which is a copy of o, in o's place.
func (l *outcomeList) replace(o, rest *outcome) {
	at := &rest.links[l.kind]
	if at.prev == nil {
		l.first = rest
	} else {
		at.prev.links[l.kind].next = rest
	}
	if at.next == nil {
		l.last = rest
	} else {
		at.next.links[l.kind].prev = rest
	}
}

// outcomes remembers received messages so that a repeated one is answered with
// the first one's outcome. It is a pure state machine: its owner serializes the
// calls and passes the time.
type outcomes struct {
	byKey   map[messageKey]*outcome
	ages    outcomeList             // ended ones
	senders map[sdk.AgentID]*sender // that have any
	replies outcomeList             // ended ones that hold a reply or an error
	bytes   int                     // of those
	// since: of messages first sent after it, none is missing.
	since time.Time
}

// sender is what there is of one agent.
type sender struct {
	ended   outcomeList
	running int
}

func newOutcomes(now time.Time) *outcomes {
	return &outcomes{byKey: map[messageKey]*outcome{}, senders: map[sdk.AgentID]*sender{},
		ages: outcomeList{kind: byAge}, replies: outcomeList{kind: byReply}, since: now}
}

// complete tells whether a message first sent at that time, which the table does
// not hold, has certainly not been received.
func (t *outcomes) complete(sent time.Time) bool { return sent.After(t.since) }

// begin returns the message's outcome and whether the caller is the first and
// has to bring it about, with end. It is nil where too many of the sender run.
func (t *outcomes) begin(now time.Time, key messageKey, running canceler) (o *outcome, first bool) {
	t.expire(now)
	if o := t.byKey[key]; o != nil {
		return o, false
	}
	s := t.senders[key.from]
	if s == nil {
		s = &sender{ended: outcomeList{kind: bySender}}
		t.senders[key.from] = s
	}
	if s.running >= runningPerSender {
		return nil, false
	}
	s.running++
	o = &outcome{key: key, running: running}
	t.byKey[key] = o
	return o, true
}

// end fixes the outcome and lets go of older ones where a bound is reached.
// Messages that are still running are never let go of.
func (t *outcomes) end(now time.Time, o *outcome, reply []byte, err *sdk.Error) {
	o.reply, o.err, o.ended, o.running = reply, err, now, nil
	if o.done != nil {
		close(o.done)
	}
	s := t.senders[o.key.from]
	s.running--
	t.ages.push(o)
	s.ended.push(o)
	if o.size = len(reply) + errorSize(err); o.size > 0 {
		o.held = true
		t.replies.push(o)
		t.bytes += o.size
	}
	if s.ended.n > outcomesPerSender {
		t.forget(s.ended.first)
	}
	if t.ages.n > outcomesTotal {
		t.since = t.ages.first.ended
		t.forget(t.ages.first)
	}
	for t.bytes > outcomesBytes {
		t.dropReply(t.replies.first)
	}
}

// wait is closed when o has ended.
func (t *outcomes) wait(o *outcome) <-chan struct{} {
	if o.done == nil {
		o.done = make(chan struct{})
		if !o.ended.IsZero() {
			close(o.done)
		}
	}
	return o.done
}

func errorSize(e *sdk.Error) int {
	if e == nil {
		return 0
	}
	n := len(e.Text) + len(e.HandlerCode)
	for _, a := range e.Attempts {
		n += len(a.Address) + len(a.Cause)
	}
	return n
}

// running is what ends a message that still runs, for its sender; nil where it
// does not. It is called without the table's lock: the message may end in it.
func (t *outcomes) running(key messageKey) canceler {
	if o := t.byKey[key]; o != nil && o.ended.IsZero() {
		return o.running
	}
	return nil
}

// repeat lets one more arrival of a message that runs wait for its outcome; false:
// it does not run, or too many wait.
func (t *outcomes) repeat(o *outcome) bool {
	if !o.ended.IsZero() || o.repeats >= repeatsFree {
		return false
	}
	o.repeats++
	return true
}

func (t *outcomes) repeated(o *outcome) { o.repeats-- }

// expire forgets a few at a time: a session's reader waits for it. They go faster
// than new ones come.
func (t *outcomes) expire(now time.Time) {
	for range 64 {
		o := t.ages.first
		if o == nil || now.Sub(o.ended) < outcomesAge {
			return
		}
		t.forget(o)
	}
}

func (t *outcomes) forget(o *outcome) {
	delete(t.byKey, o.key)
	t.ages.remove(o)
	s := t.senders[o.key.from]
	s.ended.remove(o)
	if s.ended.n == 0 && s.running == 0 {
		delete(t.senders, o.key.from)
	}
	t.release(o)
}

func (t *outcomes) release(o *outcome) {
	if o.held {
		t.replies.remove(o)
		t.bytes -= o.size
		o.held = false
	}
}

// dropReply keeps the id, so that the message does not run again, and gives up
// the reply or the error. Whoever already waits for o holds it and still gets it.
func (t *outcomes) dropReply(o *outcome) {
	t.release(o)
	rest := *o
	rest.reply, rest.err, rest.size, rest.dropped = nil, nil, 0, true
	t.byKey[o.key] = &rest
	t.ages.replace(o, &rest)
	t.senders[o.key.from].ended.replace(o, &rest)
}
