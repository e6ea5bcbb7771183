package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// notifyModel is one sender and one receiver of notifications, and lines between them
// that break, deliver late, or refuse: everything that the two state machines may
// meet, one step at a time, without clocks.
type notifyModel struct {
	t     testing.TB
	rand  *rand.Rand
	now   time.Time
	trace []string

	box   outbox
	run   uint64 // the sender's
	sent  int
	fates map[int]string // what the sender was told of each

	in       sequence
	max      int // of waits
	waits    []*modelFrame
	outcomes map[sdk.MessageID]string        // what the receiver remembers
	began    map[sdk.MessageID][]*modelFrame // every arrival of what waits
	since    time.Time                       // since when it remembers all
	ran      []int                           // by notified, in its order; of all of the receiver's runs

	lines []*modelLine
}

// modelLine is a session. Frames arrive in order, and answers at any time.
type modelLine struct {
	frames []*modelFrame // sent and not arrived
	broken bool          // for the sender; what has left still arrives
}

type modelFrame struct {
	n      int // of the notification
	l      *letter
	id     sdk.MessageID
	o      order
	again  bool // it says that it was sent before
	line   *modelLine
	flight *noticeFlight
}

func newNotifyModel(t testing.TB, seed uint64) *notifyModel {
	return &notifyModel{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), run: 1, fates: map[int]string{},
		max: 8, outcomes: map[sdk.MessageID]string{}, began: map[sdk.MessageID][]*modelFrame{}}
}

func (m *notifyModel) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *notifyModel) live() *modelLine {
	if n := len(m.lines); n > 0 && !m.lines[n-1].broken {
		return m.lines[n-1]
	}
	m.lines = append(m.lines, &modelLine{})
	return m.lines[len(m.lines)-1]
}

// post is one more notification.
func (m *notifyModel) post() {
	l := &letter{index: m.sent}
	l.id = newModelID(m.sent)
	if m.rand.IntN(10) == 0 {
		carried := m.rand.IntN(notifySmall + 2) // by the payload; the rest by the proof
		l.payload, l.header.Behalf = make([]byte, carried), make([]byte, notifySmall+1-carried)
	}
	m.box.push(l)
	m.sent++
}

func newModelID(n int) (id sdk.MessageID) {
	id[0], id[1], id[2] = byte(n), byte(n>>8), byte(n>>16)
	return id
}

// send is the pump's step.
func (m *notifyModel) send() {
	l := m.box.pick(m.now)
	if l == nil {
		return
	}
	f := &noticeFlight{}
	l.flight = f
	frame := &modelFrame{n: l.index, l: l, id: l.id, o: order{m.run, l.seq, m.box.base()}, again: l.left, line: m.live(), flight: f}
	m.box.fly(l)
	frame.line.frames = append(frame.line.frames, frame)
	m.note("send %d", l.index)
}

// landed is the sender's side of an answer.
func (m *notifyModel) landed(f *modelFrame, fate string) {
	if f.l.flight != f.flight {
		return
	}
	switch {
	case f.line.broken:
		panic("an answer over a broken session")
	case fate == "again":
		m.box.again(m.now, f.l, 0)
	case fate == "refused" && f.l.left: // outgoing.doubt
		m.settle(f.l, "unknown")
	default:
		m.box.answered()
		m.settle(f.l, fate)
	}
}

func (m *notifyModel) settle(l *letter, fate string) {
	if old, twice := m.fates[l.index]; twice {
		m.t.Fatalf("%d had the result %s, and has %s\n%q", l.index, old, fate, m.trace)
	}
	m.note("%d is %s", l.index, fate)
	m.fates[l.index] = fate
	m.box.settle(l)
}

// breakLine loses the session. Some of what has left never arrives.
func (m *notifyModel) breakLine() {
	if len(m.lines) == 0 {
		return
	}
	line := m.lines[len(m.lines)-1]
	if line.broken {
		return
	}
	line.broken = true
	line.frames = line.frames[:m.rand.IntN(len(line.frames)+1)]
	m.note("break, %d still arrive", len(line.frames))
	for _, l := range m.box.letters {
		if l.state == letterFlies {
			l.left = true
			m.box.again(m.now, l, 0)
		}
	}
}

// arrive is the receiver's side of one frame: of any session, the first one of it or,
// for a large one, later than those behind it.
func (m *notifyModel) arrive() {
	var lines []*modelLine
	for _, l := range m.lines {
		if len(l.frames) > 0 {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return
	}
	line := lines[m.rand.IntN(len(lines))]
	i := 0
	for m.rand.IntN(8) == 0 && i+1 < len(line.frames) {
		i++
	}
	f := line.frames[i]
	line.frames = slices.Delete(line.frames, i, i+1)
	if fate, known := m.outcomes[f.id]; known {
		m.answer(f, fate)
		return
	}
	if m.began[f.id] != nil {
		m.began[f.id] = append(m.began[f.id], f)
		return
	}
	b := inbox{sequence: m.in, waits: make([]*arrival, len(m.waits))}
	e := b.admit(f.o, m.max)
	m.in = b.sequence
	switch {
	case e == nil && m.rand.IntN(20) == 0: // as where the DNA does not run
		m.answer(f, "refused")
	case e == nil:
		m.in.took()
		m.began[f.id] = []*modelFrame{f}
		m.waits = append(m.waits, f)
	case e.Code == sdk.Busy:
		m.answer(f, "again")
	default:
		m.answer(f, "unknown")
	}
}

func (m *notifyModel) answer(f *modelFrame, fate string) {
	if !f.line.broken {
		m.landed(f, fate)
	}
}

// runOne runs the first that waits.
func (m *notifyModel) runOne() {
	if len(m.waits) == 0 {
		return
	}
	first := m.waits[0]
	m.waits = m.waits[1:]
	arrivals := m.began[first.id]
	delete(m.began, first.id)
	fate := "taken"
	if first.again && first.l.began.Before(m.since) {
		fate = "unknown" // an earlier run of the receiver may have run it
	} else {
		m.ran = append(m.ran, first.n)
		m.note("run %d", first.n)
	}
	m.outcomes[first.id] = fate
	for _, f := range arrivals {
		m.answer(f, fate)
	}
}

// restart is the receiver's: it forgets, and what waits there never runs.
func (m *notifyModel) restart() {
	m.note("restart")
	m.breakLine()
	for _, l := range m.lines {
		l.frames = nil
	}
	m.in, m.waits = sequence{}, nil
	clear(m.outcomes)
	clear(m.began)
	m.now = m.now.Add(time.Second)
	m.since = m.now
}

// giveUp is what the sender does at a deadline.
func (m *notifyModel) giveUp() {
	n := len(m.box.letters)
	if n == 0 {
		return
	}
	l := m.box.letters[m.rand.IntN(n)]
	switch {
	case l.state == letterSettled:
	case l.state == letterFlies || l.left:
		m.settle(l, "unknown")
	default:
		m.settle(l, "not sent")
	}
}

func (m *notifyModel) check() {
	m.t.Helper()
	if !slices.IsSorted(m.ran) {
		m.t.Fatalf("they ran in the order %v\n%q", m.ran, m.trace)
	}
	if twice := slices.Compact(slices.Clone(m.ran)); len(twice) != len(m.ran) {
		m.t.Fatalf("one ran twice: %v\n%q", m.ran, m.trace)
	}
	if w := m.box.flying; w > notifyWindow {
		m.t.Fatalf("%d are under way", w)
	}
}

// end lets everything arrive that can, and holds the results against what ran.
func (m *notifyModel) end() {
	m.t.Helper()
	for range 100 * (m.sent + 1) {
		if len(m.box.letters) == 0 && len(m.waits) == 0 {
			break
		}
		m.send()
		m.arrive()
		m.runOne()
		m.now = m.now.Add(resendMax)
	}
	m.check()
	if len(m.box.letters) != 0 || m.box.flying != 0 || m.box.bytes != 0 {
		m.t.Fatalf("%d are never settled, %d fly, %d bytes\n%q", len(m.box.letters), m.box.flying, m.box.bytes, m.trace)
	}
	ran := map[int]bool{}
	for _, n := range m.ran {
		ran[n] = true
	}
	for n := range m.sent {
		switch fate := m.fates[n]; {
		case fate == "":
			m.t.Fatalf("%d has no result", n)
		case fate == "taken" && !ran[n], (fate == "refused" || fate == "not sent") && ran[n]:
			m.t.Fatalf("the result of %d is %s; it ran: %t\n%q", n, fate, ran[n], m.trace)
		}
	}
}

// Whatever happens to the sessions and to the receiver, notifications run in order,
// none runs twice, each has one result, and the results are true.
func TestNotifyModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1000) {
		m := newNotifyModel(t, seed)
		for range 400 {
			m.step(m.rand.IntN(256))
		}
		m.end()
	}
}

func (m *notifyModel) step(what int) {
	switch {
	case what < 60:
		m.post()
	case what < 130:
		m.send()
	case what < 190:
		m.arrive()
	case what < 240:
		m.runOne()
	case what < 246:
		m.breakLine()
	case what < 247:
		m.restart()
	case what < 250:
		m.giveUp()
	default:
		m.now = m.now.Add(resendMax)
	}
	m.check()
}

// Without faults nothing is refused, and nobody waits: a window of them is under way.
func TestNotifyWindow(t *testing.T) {
	t.Parallel()
	b := outbox{}
	for range 3 * notifyWindow {
		b.push(&letter{})
	}
	for range notifyWindow {
		b.fly(b.pick(time.Time{}))
	}
	if l := b.pick(time.Time{}); l != nil {
		t.Fatalf("number %d is sent beside %d others", l.seq, b.flying)
	}
	b.settle(b.letters[1]) // the window begins with the oldest
	if b.pick(time.Time{}) != nil {
		t.Fatal("the window goes on beyond one without a result")
	}
	b.settle(b.letters[0])
	for range 2 {
		b.fly(b.pick(time.Time{}))
	}
	if b.base() != 3 || b.flying != notifyWindow {
		t.Fatalf("base %d, %d fly", b.base(), b.flying)
	}
}

// A large one is alone behind those that were sent before it.
func TestNotifyLarge(t *testing.T) {
	t.Parallel()
	b := outbox{}
	large := &letter{outgoing: outgoing{payload: make([]byte, notifySmall+1)}}
	for _, l := range []*letter{{}, large, {}} {
		b.push(l)
	}
	b.fly(b.pick(time.Time{}))
	b.fly(b.pick(time.Time{}))
	if b.letters[1].state != letterFlies || b.pick(time.Time{}) != nil {
		t.Fatal("something is sent behind a large one")
	}
	b.settle(b.letters[0])
	b.settle(large)
	if l := b.pick(time.Time{}); l == nil || l.seq != 3 {
		t.Fatalf("%v after the large one", l)
	}
}

func FuzzNotifyModel(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 60, 60, 130, 240, 241, 60, 130, 246, 0, 60, 130, 190})
	f.Fuzz(func(t *testing.T, seed uint64, steps []byte) {
		m := newNotifyModel(t, seed)
		for _, s := range steps[:min(len(steps), 1000)] {
			m.step(int(s))
		}
		m.end()
	})
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, o := range []order{{1, 2, 1}, {1 << 63, 7, 7}} {
		if got, err := parseOrder(o.encode()); err != nil || got != o {
			t.Errorf("%v came back as %v, %v", o, got, err)
		}
	}
	if got := fmt.Sprintf("%x", order{0x0102030405060708, 0x11, 0x10}.encode()); got != "010203040506070800000000000000110000000000000010" {
		t.Errorf("encoded as %s", got)
	}
	for name, b := range map[string][]byte{"none": nil, "short": make([]byte, 23), "base 0": order{1, 1, 0}.encode(),
		"base behind": order{1, 1, 2}.encode(), "no next": order{1, ^uint64(0), 1}.encode()} {
		if _, err := parseOrder(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What is remembered of senders is bounded, but for those whose notifications run.
func TestInboxes(t *testing.T) {
	t.Parallel()
	in := inboxes{boxes: map[inboxKey]*inbox{}}
	key := func(i int) (k inboxKey) { k.from[0], k.from[1], k.from[2] = byte(i), byte(i>>8), byte(i>>16); return k }
	first := in.get(key(0))
	first.running = true
	for i := range 2 * maxInboxes {
		in.get(key(i))
	}
	if len(in.boxes) != maxInboxes || len(in.ages) != maxInboxes || in.get(key(0)) != first {
		t.Errorf("%d boxes, %d ages; the one that runs is kept: %t", len(in.boxes), len(in.ages), in.get(key(0)) == first)
	}
}
