package sdk

import (
	"context"
	"fmt"
	"sync"
)

// MaxParallel is how many messages a SendMany has under way at once: as many as one
// call may await answers at once.
const MaxParallel = 64

// Answer is what one agent's Receive answered to a SendMany.
type Answer[Out any] struct {
	Agent AgentID
	Value Out
	Err   error // nil, or an *Error
}

// ManyOption is First or Quorum.
type ManyOption func(*many)

type many struct{ first, quorum int }

// First has a SendMany end as soon as n agents have answered without an error. The
// others' messages are cancelled: those that have not left never do; of those that
// have, it is not known what they did. Their Err is Canceled.
func First(n int) ManyOption { return func(m *many) { m.first = n } }

// Quorum has a SendMany end as soon as it is certain that fewer than n agents answer
// without an error; the others are cancelled as by First. While n can be reached it
// goes on to the end: with First(n) beside it, until n have answered.
func Quorum(n int) ManyOption { return func(m *many) { m.quorum = n } }

// SendMany is Send to many agents side by side, at most MaxParallel at once. It waits
// until each has answered or failed, or until an option ends it. answers[i] is that
// of agents[i], also where err is not nil. err is nil unless fewer have answered
// without an error than an option asks for: HandlerFailed with HandlerCodeQuorum.
func SendMany[Out any](c *Context, agents []AgentID, in any, options ...ManyOption) (answers []Answer[Out], err error) {
	var m many
	for _, o := range options {
		o(&m)
	}
	if m.first < 0 || m.quorum < 0 {
		return nil, Fail(HandlerCodeInput, "send to many: First(%d), Quorum(%d)", m.first, m.quorum)
	}
	if err := c.live("SendMany"); err != nil {
		return nil, err
	}
	payload, err := Marshal(in)
	if err != nil {
		return nil, Fail(HandlerCodeOutput, "send to many: %v", err)
	}
	r := &manyRun[Out]{many: m, answers: make([]Answer[Out], len(agents))}
	for i, a := range agents {
		r.answers[i].Agent = a
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	r.cancel = cancel
	r.judge()
	limited := c.With(ctx)
	var workers sync.WaitGroup
	for range min(len(agents), MaxParallel) {
		workers.Go(func() {
			for i, ok := r.next(); ok; i, ok = r.next() {
				r.take(i, r.send(limited, agents[i], payload))
			}
		})
	}
	workers.Wait()
	return r.answers, r.err()
}

// manyRun is a SendMany that runs.
type manyRun[Out any] struct {
	many
	cancel context.CancelFunc

	mu         sync.Mutex // guards what follows
	answers    []Answer[Out]
	begun      int
	took       int // have answered without an error
	failed     int
	over       bool  // an option has ended it
	firstError error // but for those that were cancelled because it was over
}

// next is the agent whose turn it is.
func (r *manyRun[Out]) next() (i int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		for ; r.begun < len(r.answers); r.begun++ {
			r.answers[r.begun].Err = &Error{Code: Canceled, Side: SideCaller, Delivered: DeliveredNo, Retry: true,
				Text: "the others' answers have decided before this message was sent"}
		}
	}
	i = r.begun
	if i >= len(r.answers) {
		return 0, false
	}
	r.begun++
	return i, true
}

func (r *manyRun[Out]) send(c *Context, to AgentID, payload []byte) (a Answer[Out]) {
	a.Agent = to
	b, err := c.call.host.Send(c.under(), Message{To: to, Payload: payload})
	if err != nil {
		a.Err = hostError(err, DeliveredUnknown)
		return a
	}
	if err := Unmarshal(b, &a.Value); err != nil {
		a.Err = badAnswer(to, err)
	}
	return a
}

func (r *manyRun[Out]) take(i int, a Answer[Out]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[i] = a
	switch {
	case a.Err == nil:
		r.took++
	default:
		r.failed++
		if r.firstError == nil && !r.over {
			r.firstError = a.Err
		}
	}
	r.judge()
}

// judge ends the run where an option says so.
func (r *manyRun[Out]) judge() {
	if r.over {
		return
	}
	if r.first > 0 && r.took >= r.first || r.quorum > 0 && len(r.answers)-r.failed < r.quorum {
		r.over = true
		r.cancel()
	}
}

func (r *manyRun[Out]) err() error {
	want := max(r.first, r.quorum)
	if r.took >= want {
		return nil
	}
	e := &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes, HandlerCode: HandlerCodeQuorum}
	e.Text = fmt.Sprintf("%d of %d agents have answered, %d were asked for", r.took, len(r.answers), want)
	if r.firstError != nil {
		e.Text += "; one has not: " + r.firstError.Error()
	}
	return e
}
