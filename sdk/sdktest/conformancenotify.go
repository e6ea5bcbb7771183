package sdktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-p2p/parley/sdk"
)

// SignalWatcher is a Peer whose agent's own clients see what its handler emits.
// TestHost uses it where it is there.
type SignalWatcher interface {
	// WatchSignals tells of the signals from now on, until ctx ends or tell fails.
	// began is called when none is missed any more.
	WatchSignals(ctx context.Context, began func(), tell func(payload []byte) error) error
}

// doNotice does the steps that go to many, or to the agent's own clients.
func doNotice(c *sdk.Context, s Step) (r Result, err error) {
	switch s.Op {
	case "notify":
		for i := range s.N + 1 {
			then := *s.Then
			then.Text = fmt.Sprint(then.Text, i)
			if err := sdk.Notify(c, s.Agents, then, s.options()...); err != nil {
				return r, err
			}
		}
		return r, nil
	case "results":
		results, err := sdk.NotifyAndWait(c, s.Agents, s.Then, s.options()...)
		for _, err := range results {
			r.Texts = append(r.Texts, outcomeText(err))
		}
		return r, err
	case "emit":
		if err := c.Emit(s.Text); err != nil || s.Then == nil {
			return r, err
		}
		return do(c, *s.Then)
	case "online":
		p, err := c.Online(s.To)
		switch {
		case p.Online:
			r.Text = "online"
		case !p.LastHeard.IsZero():
			r.Text = "heard"
		}
		return r, err
	case "many":
		answers, err := sdk.SendMany[Result](c, s.Agents, s.Then, sdk.First(s.N), sdk.Quorum(s.N))
		for _, a := range answers {
			r.Texts = append(r.Texts, outcomeText(a.Err)+a.Value.Text)
		}
		if e, ok := errors.AsType[*sdk.Error](err); ok {
			r.Text = e.HandlerCode
		}
		return r, nil
	}
	return r, sdk.Fail("conformance.op", "unknown op %q", s.Op)
}

// outcomeText is an error as two words: its code, and whether it was delivered.
func outcomeText(err error) string {
	e, ok := errors.AsType[*sdk.Error](err)
	switch {
	case err == nil:
		return ""
	case !ok:
		return err.Error()
	}
	return e.Code.Name() + " " + e.Delivered.String()
}

// testNotify: one sender's notifications come complete and in order, each a call of
// its own that commits; who does not exist costs the others nothing.
func testNotify(b *bench) {
	const n = 60
	to := []sdk.AgentID{ID("nobody"), b.bob.ID(), b.alice.ID()}
	b.do(b.alice, Step{Op: "notify", Agents: to, N: n - 2, Then: &Step{Op: "commit", Text: "n"}})
	last := b.do(b.alice, Step{Op: "results", Agents: to, Then: &Step{Op: "commit", Text: fmt.Sprint("n", n-1)}})
	if len(last.Texts) != 3 || last.Texts[0] == "" || last.Texts[1] != "" || last.Texts[2] != "" {
		b.Fatalf("the last one's results are %q", last.Texts)
	}
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint("n", i))
	}
	for _, p := range []Peer{b.alice, b.bob} {
		b.wantNotes(p, want...)
		rs := b.unmarked(p)
		for i, r := range rs[1:] {
			if c := r.Header.Cause; c.Kind != sdk.CallNotified || c.From != b.alice.ID() || c.Message.IsZero() || i > 0 && c == rs[i].Header.Cause {
				b.Fatalf("the cause of record %d is %+v", i, c)
			}
		}
	}
}

// testNotifyResults: who waits learns what became of each.
func testNotifyResults(b *bench) {
	for _, c := range []struct {
		then Step
		want string
	}{
		{Step{Op: "echo"}, ""},
		{Step{Op: "commit", Text: "no", Then: &Step{Op: "fail", Text: "told"}}, sdk.HandlerFailed.Name() + " yes"},
		{Step{Op: "leak", Text: "no"}, sdk.HandlerFailed.Name() + " yes"},
	} {
		got := b.do(b.alice, Step{Op: "results", Agents: []sdk.AgentID{b.bob.ID(), b.alice.ID()}, Then: &c.then}).Texts
		if !slices.Equal(got, []string{c.want, c.want}) {
			b.Errorf("%s: the results are %q, want %q", c.then.Op, got, c.want)
		}
	}
	b.wantNotes(b.bob)
	b.wantNotes(b.alice)
}

// testNotifyOneByOne: one sender's do not overtake each other, nor run at once; those
// of another sender do not wait for them.
func testNotifyOneByOne(b *bench) {
	gate, second, other := b.token+"gate", b.token+"second", b.token+"other"
	b.do(b.alice, Step{Op: "notify", Agents: []sdk.AgentID{b.bob.ID()}, Then: &Step{Op: "gate", Text: gate, Then: &Step{Op: "echo"}}})
	gate += "0" // its number
	b.do(b.bob, Step{Op: "wait", Text: gate + ".begun"})
	b.do(b.alice, Step{Op: "notify", Agents: []sdk.AgentID{b.bob.ID()}, Then: &Step{Op: "raise", Text: second}})
	if got := b.do(b.bob, Step{Op: "results", Agents: []sdk.AgentID{b.bob.ID()}, Then: &Step{Op: "raise", Text: other}}).Texts; !slices.Equal(got, []string{""}) {
		b.Fatalf("another sender's has the results %q", got)
	}
	if r := b.do(b.bob, Step{Op: "raised", Text: second + "0"}); r.Text != "" {
		b.Fatal("the second one runs beside the first one")
	}
	b.do(b.bob, Step{Op: "raise", Text: gate + ".open"})
	b.do(b.bob, Step{Op: "wait", Text: second + "0"})
}

// testEmit: signals reach the agent's own clients in order and at once, also those of
// a call that fails.
func testEmit(b *bench) {
	w, ok := b.bob.(SignalWatcher)
	if !ok {
		b.Skip("its clients can't watch")
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	enough := errors.New("enough")
	began, ended := make(chan struct{}), make(chan error, 1)
	var got []string
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		ended <- w.WatchSignals(ctx, func() { close(began) }, func(payload []byte) error {
			var text string
			if err := sdk.Unmarshal(payload, &text); err != nil {
				return err
			}
			if got = append(got, text); text == "last" {
				return enough
			}
			return nil
		})
	})
	<-began
	b.do(b.bob, Step{Op: "emit", Text: "1", Then: &Step{Op: "emit", Text: "2"}})
	b.do(b.alice, b.send(Step{Op: "emit", Text: "3"}))
	b.do(b.alice, Step{Op: "emit", Text: "not bob's"})
	if _, err := b.try(b.ctx, b.bob, Step{Op: "emit", Text: "last", Then: &Step{Op: "fail", Text: "told"}}); err == nil {
		b.Fatal("no error")
	}
	if err := <-ended; err != enough || !slices.Equal(got, []string{"1", "2", "3", "last"}) {
		b.Fatalf("bob's clients saw %q, %v", got, err)
	}
}

func testOnline(b *bench) {
	b.do(b.alice, b.send(Step{Op: "echo"}))
	for _, c := range []struct {
		of   sdk.AgentID
		want string
	}{{b.bob.ID(), "online"}, {b.alice.ID(), "online"}, {ID("nobody"), ""}} {
		if r := b.do(b.alice, Step{Op: "online", To: c.of}); r.Text != c.want {
			b.Errorf("%s: %q, want %q", c.of.Short(), r.Text, c.want)
		}
	}
}

// testMany: each agent has its own answer, and an option's end cancels the others.
func testMany(b *bench) {
	both := []sdk.AgentID{b.bob.ID(), b.alice.ID()}
	if r := b.do(b.alice, Step{Op: "many", Agents: both, N: 2, Then: &Step{Op: "echo", Text: "x"}}); !slices.Equal(r.Texts, []string{"x", "x"}) || r.Text != "" {
		b.Errorf("both answer: %q %s", r.Texts, r.Text)
	}
	r := b.do(b.alice, Step{Op: "many", Agents: append(both, ID("nobody")), N: 3, Then: &Step{Op: "hang", Text: b.token + "hang"}})
	if len(r.Texts) != 3 || r.Text != sdk.HandlerCodeQuorum || r.Texts[2] == "" {
		b.Errorf("three of two: %q %s", r.Texts, r.Text)
	}
	for _, text := range r.Texts[:2] {
		if text != sdk.Canceled.Name()+" unknown" && text != sdk.Canceled.Name()+" yes" && text != sdk.Canceled.Name()+" no" {
			b.Errorf("one that was cancelled: %q", text)
		}
	}
}
