package node

import (
	"slices"
	"time"
)

const (
	// notifyWindow is how many notifications to one agent are under way at once: a
	// quarter of what that agent's node serves at once (max-requests).
	notifyWindow = 64
	// notifySmall is the largest payload, with its proof, that is sent with others on
	// their way: what is larger arrives in parts, and behind what is sent after it. With its header
	// a smaller one is one frame of the fast queue (docs/wire.md).
	notifySmall = 6 << 10
	// notifyOverhead is what one that waits takes beside its payload, in bytes.
	notifyOverhead = 512
	// outboxOverhead is what an outbox takes beside its letters, in bytes, with its
	// goroutine and what that needs to connect.
	outboxOverhead = 8 << 10
)

// letter is one notification to one agent, from Notify to its result.
type letter struct {
	outgoing
	seq      uint64
	deadline time.Time
	state    letterState
	flight   *noticeFlight // under way
	shared   *sharedPayload
	wait     *noticeWait // nil: nobody waits for the result
	index    int         // in wait.results
}

type letterState uint8

const (
	letterWaits letterState = iota
	letterFlies
	letterSettled
)

// outbox is what one agent is to get of one DNA's notifications, in order. It is a
// pure state machine. It sends in order, a window of them at once; what is refused
// or lost is sent again, in order, and before that nothing behind it is (go-back-N).
type outbox struct {
	// letters begins with the oldest one that is not settled. Those before next have
	// been sent since the last going back; those behind it were not.
	// Of those between, some may be settled: gone of them.
	letters []*letter
	next    int
	gone    int
	flying  int
	bytes   int // what letters take
	seq     uint64

	back      bool      // nothing is sent until nothing flies; then all are sent again
	notBefore time.Time // with back: nor before that
	pause     time.Duration
	moved     bool      // something was answered since the last going back
	lostAt    time.Time // since when one that left may be lost; zero = none is
}

// push adds a letter and numbers it.
func (b *outbox) push(l *letter) {
	b.seq++
	l.seq = b.seq
	b.letters = append(b.letters, l)
	b.bytes += l.size()
}

func (l *letter) size() int { return notifyOverhead + l.carries() }

// carries is what it takes on its way beside what every notification does.
func (l *letter) carries() int { return len(l.payload) + len(l.header.Behalf) }

// base is the number of the oldest one that is not settled: none below it may run
// any more that has not begun to.
func (b *outbox) base() uint64 { return b.letters[0].seq }

// pick is the letter to be sent next; nil if none can be now.
func (b *outbox) pick(now time.Time) *letter {
	if b.back {
		if b.flying > 0 || now.Before(b.notBefore) {
			return nil
		}
		b.back, b.next = false, 0
	}
	for b.next < len(b.letters) && b.letters[b.next].state == letterSettled {
		b.next++
	}
	switch {
	case b.next == len(b.letters) || b.next >= notifyWindow:
		return nil
	case b.flying > 0 && b.letters[b.next-1].carries() > notifySmall:
		return nil // what is behind a large one would arrive before it
	}
	return b.letters[b.next]
}

// fly notes that what pick gave is sent.
func (b *outbox) fly(l *letter) {
	l.state = letterFlies
	b.flying++
	b.next++
}

// land takes back a letter that was not sent after all: the last that fly took.
func (b *outbox) land(l *letter) {
	l.state, l.flight = letterWaits, nil
	b.flying--
	b.next--
}

// settle ends a letter.
func (b *outbox) settle(l *letter) {
	if l.state == letterFlies {
		b.flying--
	}
	l.state, l.flight = letterSettled, nil
	b.bytes -= l.size()
	b.gone++
	for len(b.letters) > 0 && b.letters[0].state == letterSettled {
		b.letters[0] = nil
		b.letters = b.letters[1:]
		b.next = max(b.next-1, 0)
		b.gone--
	}
	if b.gone > len(b.letters)/2 { // behind one that is stuck
		b.sweep()
	}
}

// sweep lets go of those that are settled.
func (b *outbox) sweep() {
	for _, l := range b.letters[:b.next] { // the range is taken before next changes
		if l.state == letterSettled {
			b.next--
		}
	}
	b.letters = slices.DeleteFunc(b.letters, func(l *letter) bool { return l.state == letterSettled })
	b.gone = 0
}

// live is how many letters are not settled.
func (b *outbox) live() int { return len(b.letters) - b.gone }

// answered notes that the other node has answered for good: the line is up.
func (b *outbox) answered() {
	b.moved, b.lostAt = true, time.Time{}
}

// again takes back a letter that flew: it and those behind it are sent again, after
// the pauses of a message, or after, if that is longer.
func (b *outbox) again(now time.Time, l *letter, after time.Duration) {
	b.flying--
	l.state, l.flight = letterWaits, nil
	if l.left && b.lostAt.IsZero() {
		b.lostAt = now
	}
	b.goBack(now, after)
}

// goBack has everything sent again that is not settled. Of several reasons at once
// one pause comes, and none where something was answered since the last one.
func (b *outbox) goBack(now time.Time, after time.Duration) {
	if !b.back {
		b.back = true
		b.pause = min(max(2*b.pause, resendPause), resendMax)
		if b.moved {
			b.pause, b.moved = 0, false
		}
		b.notBefore = now.Add(b.pause)
	}
	if at := now.Add(after); b.notBefore.Before(at) {
		b.notBefore = at
	}
}

// waiting are the letters that are not under way.
func (b *outbox) waiting() (list []*letter) {
	for _, l := range b.letters {
		if l.state == letterWaits {
			list = append(list, l)
		}
	}
	return list
}

// oldest is the one of those under way whose deadline is first; nil if none is.
func (b *outbox) oldest() (first *letter) {
	for _, l := range b.letters[:min(b.next, len(b.letters))] {
		if l.state == letterFlies && (first == nil || l.deadline.Before(first.deadline)) {
			first = l
		}
	}
	return first
}
