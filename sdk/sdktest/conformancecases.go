package sdktest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

func testWho(b *bench) {
	r := b.do(b.alice, b.send(Step{Op: "who"}))
	if r.Agent != b.bob.ID() || r.From != b.alice.ID() || r.Message.IsZero() || r.DNA.IsZero() {
		b.Fatalf("a receive sees %+v", r)
	}
	f := b.do(b.alice, Step{Op: "who"})
	if f.Agent != b.alice.ID() || f.From != b.alice.ID() || f.Message.IsZero() || f.DNA != r.DNA {
		b.Fatalf("a function sees %+v", f)
	}
}

func testReply(b *bench) {
	for _, text := range []string{"", "x", strings.Repeat("long ", 20_000)} {
		if r := b.do(b.alice, b.send(Step{Op: "echo", Text: text})); r.Text != text {
			b.Fatalf("%d bytes came back of %d", len(r.Text), len(text))
		}
	}
}

func testCommit(b *bench) {
	b.do(b.alice, b.send(Step{Op: "commit", Text: "by a receive", N: 1}))
	b.do(b.bob, Step{Op: "commit", Text: "by a function"})
	b.wantNotes(b.bob, "by a receive", "by a receive", "by a function")
	b.wantNotes(b.alice)
	rs := b.unmarked(b.bob)
	if g := rs[0].Header; g.Kind != sdk.KindGenesis || g.Author != b.bob.ID() {
		b.Fatalf("record 0 is %+v", g)
	}
	if c, d := rs[1].Header.Cause, rs[2].Header.Cause; c.Kind != sdk.CallReceive || c.From != b.alice.ID() || c.Message.IsZero() || c != d {
		b.Fatalf("the causes of one receive are %+v and %+v", c, d)
	}
	if c := rs[3].Header.Cause; c.Kind != sdk.CallFunction || c.From != b.bob.ID() {
		b.Fatalf("the cause of a function is %+v", c)
	}
}

func testRollback(b *bench) {
	for _, s := range []Step{
		{Op: "commit", Text: "no", Then: &Step{Op: "fail", Text: "told"}},
		{Op: "commit", Text: "no", Then: &Step{Op: "panic"}},
		{Op: "leak", Text: "no"},
	} {
		for _, s := range []Step{s, b.send(s)} {
			if _, err := b.try(b.ctx, b.alice, s); err == nil {
				b.Fatalf("%+v: no error", s)
			}
		}
	}
	b.wantNotes(b.alice)
	b.wantNotes(b.bob)
}

// testOrder: entries stand in the order of their Commits, whatever their size.
func testOrder(b *bench) {
	texts := []string{"1", strings.Repeat("2", 20<<10), "3", strings.Repeat("4", 100<<10), strings.Repeat("5", 10<<10), "6"}
	var s *Step
	for _, text := range slices.Backward(texts) {
		s = &Step{Op: "commit", Text: text, Then: s}
	}
	b.do(b.alice, b.send(*s))
	b.do(b.alice, *s)
	b.wantNotes(b.bob, texts...)
	b.wantNotes(b.alice, texts...)
}

// testLimits: what can't be staged is refused by Commit itself, with the error of
// an sdk.Stage. The call may go on, and the other entries are appended.
func testLimits(b *bench) {
	limits := b.net.CommitLimits()
	small, big := strings.Repeat("x", limits.Bytes/limits.Entries*2), strings.Repeat("x", limits.Entry-100)
	var notes []string
	for _, try := range []Step{
		{Text: "x", N: limits.Entries}, {Text: small, N: limits.Entries - 1}, {Text: big, N: limits.Entries - 1},
		{Text: strings.Repeat("x", limits.Entry)}, {Text: strings.Repeat("x", 100<<10), N: limits.Entries},
		{Spoil: "type"}, {Spoil: "own type"}, {Spoil: "visibility"}, {Spoil: "ordering"},
	} {
		try.Op = "try"
		content, err := sdk.Marshal(try.Text)
		if err != nil {
			b.Fatal(err)
		}
		stage, e := sdk.Stage{Limits: limits}, sdk.Entry{Type: "note", Content: content}
		spoilt(try.Spoil)(&e)
		notes = append(notes, "before")
		err = stage.Add(&sdk.Entry{Type: "note", Content: make([]byte, 1+len("before"))})
		for err == nil {
			if err = stage.Add(&e); err == nil {
				notes = append(notes, try.Text)
			}
		}
		s := Step{Op: "commit", Text: "before", Then: &try}
		for _, r := range []Result{b.do(b.bob, s), b.do(b.alice, b.send(s))} {
			if r.Text != err.Error() {
				b.Errorf("%d entries of %d bytes, spoilt %q:\ngot  %s\nwant %v", try.N+1, len(content), try.Spoil, r.Text, err)
			}
		}
	}
	if got, want := len(b.notes(b.bob)), 2*len(notes); got != want {
		b.Errorf("%d entries are on the chain, want %d", got, want)
	}
}

// testTooMuch: a call that fails by a refused commit leaves nothing.
func testTooMuch(b *bench) {
	limits := b.net.CommitLimits()
	for _, s := range []Step{{Op: "commit", Text: "x", N: limits.Entries}, {Op: "commit", Text: strings.Repeat("x", 12<<10), N: limits.Bytes >> 13}} {
		_, err := b.try(b.ctx, b.alice, s)
		b.wantRetry(b.want(err, sdk.TooLarge, "", sdk.SideNode, sdk.DeliveredYes))
		_, err = b.try(b.ctx, b.alice, b.send(s))
		b.wantRetry(b.want(err, sdk.HandlerFailed, sdk.TooLarge.Name(), sdk.SideRemoteHandler, sdk.DeliveredYes))
	}
	b.wantNotes(b.alice)
	b.wantNotes(b.bob)
}

// testStrict lets a call begin, another one commit, and then the first one.
func testStrict(b *bench) {
	for strict, want := range map[bool][]string{false: {"between", "gated"}, true: {"between"}} {
		gate := b.token
		if strict {
			gate += ".strict"
		}
		peer := map[bool]Peer{false: b.alice, true: b.bob}[strict]
		done := make(chan error, 1)
		go func() {
			_, err := b.try(b.ctx, peer, Step{Op: "gate", Text: gate, Then: &Step{Op: "commit", Text: "gated", Strict: strict}})
			done <- err
		}()
		b.do(peer, Step{Op: "wait", Text: gate + ".begun"})
		b.do(peer, Step{Op: "commit", Text: "between"})
		b.do(peer, Step{Op: "raise", Text: gate + ".open"})
		err := <-done
		if strict {
			b.wantRetry(b.want(err, sdk.ChainMoved, "", sdk.SideNode))
		} else if err != nil {
			b.Fatal(err)
		}
		b.wantNotes(peer, want...)
	}
	b.do(b.bob, Step{Op: "commit", Text: "strict, alone", Strict: true, N: 1})
	b.wantNotes(b.bob, "between", "strict, alone", "strict, alone")
}

func testQuery(b *bench) {
	b.do(b.bob, Step{Op: "commit", Text: "durable"})
	// What a call staged is not there for its own query.
	r := b.do(b.bob, Step{Op: "commit", Text: "staged", Then: &Step{Op: "query"}})
	if !slices.Equal(r.Texts, []string{"durable"}) {
		b.Fatalf("a call sees %q", r.Texts)
	}
	if r := b.do(b.alice, b.send(Step{Op: "query"})); !slices.Equal(r.Texts, []string{"durable", "staged"}) {
		b.Fatalf("a later call sees %q", r.Texts)
	}
}

func testErrors(b *bench) {
	for _, c := range []struct {
		step Step
		code string
	}{
		{Step{Op: "fail", Text: "my.code"}, "my.code"},
		{Step{Op: "panic"}, sdk.HandlerCodePanic},
		{Step{Op: "leak"}, ""},
	} {
		_, err := b.try(b.ctx, b.alice, c.step)
		b.want(err, sdk.HandlerFailed, c.code, sdk.SideHandler)
		_, err = b.try(b.ctx, b.alice, b.send(c.step))
		b.wantRetry(b.want(err, sdk.HandlerFailed, c.code, sdk.SideRemoteHandler, sdk.DeliveredYes))
	}
	_, err := b.alice.Call(b.ctx, "do", []byte{0x93, 1})
	b.want(err, sdk.HandlerFailed, sdk.HandlerCodeInput, sdk.SideHandler)
}

// testNested: Bob's receive fails by a send of its own. Alice's message was
// delivered, whatever happened to Bob's.
func testNested(b *bench) {
	nowhere := Step{Op: "send", To: ID("nobody"), Then: &Step{Op: "echo"}}
	_, err := b.try(b.ctx, b.alice, b.send(nowhere))
	b.want(err, sdk.HandlerFailed, sdk.UnknownAgent.Name(), sdk.SideRemoteHandler, sdk.DeliveredYes)
}

func testUnknownAgent(b *bench) {
	_, err := b.try(b.ctx, b.alice, Step{Op: "send", To: ID("nobody"), Then: &Step{Op: "echo"}})
	b.wantRetry(b.want(err, sdk.UnknownAgent, "", sdk.SideNode, sdk.DeliveredNo))
}

func testUnknownFunction(b *bench) {
	_, err := b.alice.Call(b.ctx, "dont", nil)
	e := b.want(err, sdk.NoHandler, "", 0, sdk.DeliveredNo)
	if !strings.Contains(e.Text, "do") {
		b.Fatalf("the error does not say what there is: %v", e)
	}
}

func testDeadline(b *bench) {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	r, err := b.try(ctx, b.alice, b.send(Step{Op: "deadline"}))
	if err != nil {
		b.Fatal(err)
	}
	if r.Left <= 0 || r.Left > 20*time.Second {
		b.Fatalf("the receive has %s left of the sender's 20 s", r.Left)
	}
}

// testTimeout takes longer deadlines until one reaches Bob's receive before it
// passes, so that a slow machine can't fail it.
func testTimeout(b *bench) {
	for d := 250 * time.Millisecond; ; d *= 2 {
		token := b.token + d.String()
		ctx, cancel := context.WithTimeout(b.ctx, d)
		_, err := b.try(ctx, b.alice, b.send(Step{Op: "commit", Text: "no", Then: &Step{Op: "hang", Text: token}}))
		cancel()
		e := b.want(err, sdk.Timeout, "", 0)
		if b.do(b.bob, Step{Op: "raised", Text: token + ".begun"}).Text != "yes" {
			continue
		}
		if e.Delivered == sdk.DeliveredNo {
			b.Fatalf("the receive ran, and the error says: %v", e)
		}
		b.do(b.bob, Step{Op: "wait", Text: token + ".ended"})
		b.wantNotes(b.bob)
		return
	}
}

func testCancel(b *bench) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := b.try(ctx, b.alice, b.send(Step{Op: "commit", Text: "no", Then: &Step{Op: "hang", Text: b.token}}))
		done <- err
	}()
	b.do(b.bob, Step{Op: "wait", Text: b.token + ".begun"})
	cancel()
	b.want(<-done, sdk.Canceled, "", 0, sdk.DeliveredYes, sdk.DeliveredUnknown)
	b.do(b.bob, Step{Op: "wait", Text: b.token + ".ended"})
	b.wantNotes(b.bob)
}

// testBack: while Alice waits for Bob, Bob sends to Alice, who sends to Bob.
func testBack(b *bench) {
	inner := b.send(Step{Op: "commit", Text: "deep", Then: &Step{Op: "echo", Text: "pong"}})
	back := Step{Op: "send", To: b.alice.ID(), Then: &inner}
	if r := b.do(b.alice, b.send(back)); r.Text != "pong" {
		b.Fatalf("got %+v", r)
	}
	b.wantNotes(b.bob, "deep")
}

func testSelf(b *bench) {
	r := b.do(b.bob, b.send(Step{Op: "commit", Text: "mine", Then: &Step{Op: "who"}}))
	if r.From != b.bob.ID() || r.Agent != b.bob.ID() {
		b.Fatalf("got %+v", r)
	}
	b.wantNotes(b.bob, "mine")
	_, err := b.try(b.ctx, b.bob, b.send(Step{Op: "fail", Text: "told"}))
	b.want(err, sdk.HandlerFailed, "told", sdk.SideRemoteHandler, sdk.DeliveredYes)
}

// testTooLarge fills the limit, and is over it on the way back. That an answer
// of the limit's size fits needs the few bytes around its text to be left out.
func testTooLarge(b *bench) {
	const around = 512
	limit := b.net.MaxPayload()
	if r := b.do(b.alice, b.send(Step{Op: "big", N: limit - around})); len(r.Text) != limit-around {
		b.Fatalf("%d bytes came back of %d", len(r.Text), limit-around)
	}
	_, err := b.try(b.ctx, b.alice, b.send(Step{Op: "commit", Text: "no", Then: &Step{Op: "big", N: limit + 1}}))
	e := b.want(err, sdk.TooLarge, "", 0)
	if e.Limit == nil || e.Limit.Max != uint64(limit) || e.Limit.Value <= e.Limit.Max || e.Limit.Setting == "" {
		b.Fatalf("the error does not tell both figures and the setting: %+v", e.Limit)
	}
	b.wantNotes(b.bob)
	_, err = b.alice.Call(b.ctx, "do", make([]byte, limit+1))
	b.want(err, sdk.TooLarge, "", 0, sdk.DeliveredNo)
}

func testConcurrent(b *bench) {
	const calls = 24
	var wg sync.WaitGroup
	errs := make(chan error, 2*calls)
	for range calls {
		for _, p := range []Peer{b.alice, b.bob} {
			wg.Go(func() {
				_, err := b.try(b.ctx, p, b.send(Step{Op: "commit", Text: "x", N: 1}))
				errs <- err
			})
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	rs := b.unmarked(b.bob)
	if len(rs) != 1+4*calls {
		b.Fatalf("%d records, want %d", len(rs), 1+4*calls)
	}
	for i := 1; i < len(rs); i += 2 {
		if rs[i].Header.Cause != rs[i+1].Header.Cause {
			b.Fatalf("records %d and %d are of one call and stand apart", i, i+1)
		}
	}
}

func testLater(b *bench) {
	b.do(b.bob, Step{Op: "later", Text: b.token})
	b.do(b.bob, Step{Op: "wait", Text: b.token + ".refused"})
	b.wantNotes(b.bob)
}

func testCrash(b *bench) {
	bob, ok := b.bob.(Crasher)
	if !ok {
		b.Skip("this network's handlers can't be crashed")
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.try(b.ctx, b.alice, b.send(Step{Op: "commit", Text: "no", Then: &Step{Op: "gate", Text: b.token}}))
		done <- err
	}()
	b.do(b.bob, Step{Op: "wait", Text: b.token + ".begun"})
	bob.Crash()
	e := b.want(<-done, sdk.HandlerCrashed, "", 0, sdk.DeliveredYes)
	if e.Side != sdk.SideRemoteNode && e.Side != sdk.SideRemoteHandler {
		b.Fatalf("the crash is told to be on %s", e.Side)
	}
	b.wantRetry(e) // it sent nothing
	b.wantNotes(b.bob)
	b.do(b.alice, b.send(Step{Op: "commit", Text: "after the crash"}))
	b.wantNotes(b.bob, "after the crash")
}

// testInit: the mark stands before all that calls committed.
func testInit(b *bench) {
	b.do(b.alice, Step{Op: "commit", Text: "x"})
	rs := b.records(b.alice)
	h := rs[1].Header
	if h.EntryType != "parley.init" || h.Cause.Kind != sdk.CallInit || h.Cause.From != b.alice.ID() || h.Visibility != sdk.Private || len(rs) != 3 {
		b.Fatalf("%d records, record 1 is %+v", len(rs), h)
	}
}

// testValidate: a Commit that is refused ends the call if it lets it, and stages
// nothing if it does not.
func testValidate(b *bench) {
	const text = `entry "note" is not valid: conformance.no: own: true`
	for _, s := range []Step{{Op: "commit", Text: "good", Then: &Step{Op: "commit", Text: "not valid"}}, {Op: "commit", Text: "not valid"}} {
		_, err := b.try(b.ctx, b.bob, s)
		e := b.want(err, sdk.HandlerFailed, sdk.HandlerCodeValidate, sdk.SideHandler, sdk.DeliveredYes)
		b.wantRetry(e)
		if e.Text != text {
			b.Errorf("got %q", e.Text)
		}
		_, err = b.try(b.ctx, b.alice, b.send(s))
		b.want(err, sdk.HandlerFailed, sdk.HandlerCodeValidate, sdk.SideRemoteHandler, sdk.DeliveredYes)
	}
	b.wantNotes(b.bob)
	if r := b.do(b.bob, Step{Op: "try", Text: "not valid"}); !strings.Contains(r.Text, text) {
		b.Errorf("got %q", r.Text)
	}
	b.wantNotes(b.bob)
}

// testPostCommit: what a function and what a receive committed is told of, once
// more where post_commit failed.
func testPostCommit(b *bench) {
	for _, kind := range []string{"tell:", "again:"} {
		text := kind + b.token
		b.do(b.bob, Step{Op: "commit", Text: text})
		b.do(b.bob, Step{Op: "wait", Text: text})
		b.do(b.alice, b.send(Step{Op: "commit", Text: text + ".2"}))
		b.do(b.bob, Step{Op: "wait", Text: text + ".2"})
	}
}
