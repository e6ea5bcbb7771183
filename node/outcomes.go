package node

import (
	"container/list"
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
	key  messageKey
	done chan struct{} // closed when reply and err are final
	// cancel ends the running receive's context.
	cancel context.CancelCauseFunc

	// Written once, before done is closed.
	reply []byte
	err   *sdk.Error

	ended   time.Time     // zero while it runs
	size    int           // of reply and err, bytes
	dropped bool          // both were given up for room
	age     *list.Element // in outcomes.ages, once it has ended
	mine    *list.Element // in its sender's list, once it has ended
	held    *list.Element // in outcomes.replies, until it is dropped
}

// outcomes remembers received messages so that a repeated one is answered with
// the first one's outcome. It is a pure state machine: its owner serializes the
// calls and passes the time.
type outcomes struct {
	byKey   map[messageKey]*outcome
	ages    *list.List                 // ended ones, oldest first
	senders map[sdk.AgentID]*list.List // ended ones of a sender, oldest first
	running map[sdk.AgentID]int        // of a sender, those that have not ended
	replies *list.List                 // ended ones that hold a reply or an error, oldest first
	bytes   int                        // of those
	// since: of messages first sent after it, none is missing.
	since time.Time
}

func newOutcomes(now time.Time) *outcomes {
	return &outcomes{byKey: map[messageKey]*outcome{}, ages: list.New(),
		senders: map[sdk.AgentID]*list.List{}, running: map[sdk.AgentID]int{}, replies: list.New(), since: now}
}

// complete tells whether a message first sent at that time, which the table does
// not hold, has certainly not been received.
func (t *outcomes) complete(sent time.Time) bool { return sent.After(t.since) }

// begin returns the message's outcome and whether the caller is the first and
// has to bring it about, with end. It is nil where too many of the sender run.
func (t *outcomes) begin(now time.Time, key messageKey, cancel context.CancelCauseFunc) (o *outcome, first bool) {
	t.expire(now)
	if o := t.byKey[key]; o != nil {
		return o, false
	}
	if t.running[key.from] >= runningPerSender {
		return nil, false
	}
	t.running[key.from]++
	o = &outcome{key: key, done: make(chan struct{}), cancel: cancel}
	t.byKey[key] = o
	return o, true
}

// end fixes the outcome and lets go of older ones where a bound is reached.
// Messages that are still running are never let go of.
func (t *outcomes) end(now time.Time, o *outcome, reply []byte, err *sdk.Error) {
	o.reply, o.err, o.ended = reply, err, now
	close(o.done)
	if t.running[o.key.from]--; t.running[o.key.from] == 0 {
		delete(t.running, o.key.from)
	}
	o.age = t.ages.PushBack(o)
	mine := t.senders[o.key.from]
	if mine == nil {
		mine = list.New()
		t.senders[o.key.from] = mine
	}
	o.mine = mine.PushBack(o)
	if o.size = len(reply) + errorSize(err); o.size > 0 {
		o.held = t.replies.PushBack(o)
		t.bytes += o.size
	}
	if mine.Len() > outcomesPerSender {
		t.forget(mine.Front().Value.(*outcome))
	}
	if t.ages.Len() > outcomesTotal {
		oldest := t.ages.Front().Value.(*outcome)
		t.since = oldest.ended
		t.forget(oldest)
	}
	for t.bytes > outcomesBytes {
		t.dropReply(t.replies.Front().Value.(*outcome))
	}
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

// revoke cancels a message that still runs, on behalf of its sender.
func (t *outcomes) revoke(key messageKey) {
	if o := t.byKey[key]; o != nil && o.ended.IsZero() {
		o.cancel(context.Canceled)
	}
}

func (t *outcomes) expire(now time.Time) {
	for e := t.ages.Front(); e != nil; e = t.ages.Front() {
		o := e.Value.(*outcome)
		if now.Sub(o.ended) < outcomesAge {
			return
		}
		t.forget(o)
	}
}

func (t *outcomes) forget(o *outcome) {
	delete(t.byKey, o.key)
	t.ages.Remove(o.age)
	mine := t.senders[o.key.from]
	mine.Remove(o.mine)
	if mine.Len() == 0 {
		delete(t.senders, o.key.from)
	}
	t.release(o)
}

func (t *outcomes) release(o *outcome) {
	if o.held != nil {
		t.replies.Remove(o.held)
		t.bytes -= o.size
		o.held = nil
	}
}

// dropReply keeps the id, so that the message does not run again, and gives up
// the reply or the error. Whoever already waits for o holds it and still gets it.
func (t *outcomes) dropReply(o *outcome) {
	t.release(o)
	rest := &outcome{key: o.key, done: o.done, cancel: o.cancel, ended: o.ended, dropped: true, age: o.age, mine: o.mine}
	t.byKey[o.key] = rest
	o.age.Value, o.mine.Value = rest, rest
}
