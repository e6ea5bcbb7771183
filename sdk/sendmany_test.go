package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// manyHost answers each agent's message after a time of its own, or fails, or never
// answers. It counts what is under way.
type manyHost struct {
	Host   // nil: nothing else is called
	agents map[AgentID]manyAgent

	mu              sync.Mutex // guards what follows
	open, most, all int
}

type manyAgent struct {
	after time.Duration
	fails bool
	never bool // it answers at the context's end
	odd   bool // its answer does not decode
}

func (h *manyHost) Send(ctx context.Context, m Message) ([]byte, error) {
	h.mu.Lock()
	h.open++
	h.all++
	h.most = max(h.most, h.open)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.open--
	}()
	a := h.agents[m.To]
	if a.never {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(a.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case a.fails:
		return nil, &Error{Code: Unreachable, Side: SideNode, Delivered: DeliveredNo}
	case a.odd:
		return []byte{0xc1}, nil
	}
	return Marshal(int(m.To[0]))
}

// What each agent does decides when a SendMany ends, and with what.
func TestSendMany(t *testing.T) {
	t.Parallel()
	s := time.Second
	for name, c := range map[string]struct {
		agents  []manyAgent
		options []ManyOption
		codes   []Code // of each agent; 0: it has answered
		fails   bool
		took    time.Duration
	}{
		"nobody":                       {},
		"nobody, and first":            {options: []ManyOption{First(1)}, fails: true},
		"all answer":                   {[]manyAgent{{after: 3 * s}, {after: s}, {after: 2 * s}}, nil, []Code{0, 0, 0}, false, 3 * s},
		"some fail":                    {[]manyAgent{{fails: true}, {after: s}, {odd: true}}, nil, []Code{Unreachable, 0, HandlerFailed}, false, s},
		"first 1":                      {[]manyAgent{{never: true}, {after: s}, {after: 2 * s}}, []ManyOption{First(1)}, []Code{Canceled, 0, Canceled}, false, s},
		"first 2, one fails":           {[]manyAgent{{fails: true}, {after: s}, {after: 2 * s}, {never: true}}, []ManyOption{First(2)}, []Code{Unreachable, 0, 0, Canceled}, false, 2 * s},
		"first 2, and only one":        {[]manyAgent{{fails: true}, {after: s}, {fails: true, after: 5 * s}}, []ManyOption{First(2)}, []Code{Unreachable, 0, Unreachable}, true, 5 * s},
		"quorum, all go on":            {[]manyAgent{{after: s}, {after: s}, {after: 9 * s}}, []ManyOption{Quorum(2)}, []Code{0, 0, 0}, false, 9 * s},
		"quorum impossible":            {[]manyAgent{{fails: true, after: s}, {fails: true, after: 2 * s}, {never: true}}, []ManyOption{Quorum(2)}, []Code{Unreachable, Unreachable, Canceled}, true, 2 * s},
		"quorum of more than there is": {[]manyAgent{{}, {}}, []ManyOption{Quorum(3)}, []Code{Canceled, Canceled}, true, 0},
		"quorum and first":             {[]manyAgent{{after: s}, {fails: true}, {after: 2 * s}, {never: true}}, []ManyOption{First(2), Quorum(2)}, []Code{0, Unreachable, 0, Canceled}, false, 2 * s},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &manyHost{agents: map[AgentID]manyAgent{}}
				var to []AgentID
				for i, a := range c.agents {
					id := AgentID{byte(i + 1)}
					h.agents[id] = a
					to = append(to, id)
				}
				ctx, end := newContext(t.Context(), h, &Call{Kind: CallFunction}, Define("d", "1"))
				defer end()
				began := time.Now()
				answers, err := SendMany[int](ctx, to, "hello", c.options...)
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				if e, _ := errors.AsType[*Error](err); (err != nil) != c.fails || err != nil && e.HandlerCode != HandlerCodeQuorum {
					t.Errorf("error %v", err)
				}
				if len(answers) != len(c.agents) {
					t.Fatalf("%d answers of %d agents", len(answers), len(c.agents))
				}
				for i, a := range answers {
					e, _ := errors.AsType[*Error](a.Err)
					if a.Agent != to[i] || c.codes[i] == 0 && (a.Err != nil || a.Value != i+1) || c.codes[i] != 0 && (e == nil || e.Code != c.codes[i]) {
						t.Errorf("agent %d: %+v", i, a)
					}
				}
			})
		})
	}
}

// So many are under way at once, and no more; who is cancelled before his turn was
// never sent anything.
func TestSendManyBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &manyHost{agents: map[AgentID]manyAgent{}}
		to := make([]AgentID, 5*MaxParallel)
		for i := range to {
			to[i] = AgentID{byte(i), byte(i >> 8), 1}
			h.agents[to[i]] = manyAgent{after: time.Second}
		}
		ctx, end := newContext(t.Context(), h, &Call{Kind: CallFunction}, Define("d", "1"))
		defer end()
		if _, err := SendMany[int](ctx, to, nil); err != nil || h.most != MaxParallel || h.all != len(to) {
			t.Errorf("%d at once, %d in all, %v", h.most, h.all, err)
		}
		h.all = 0
		answers, err := SendMany[int](ctx, to, nil, First(MaxParallel+1))
		if err != nil || h.all > 3*MaxParallel {
			t.Errorf("%d were sent for the first %d, %v", h.all, MaxParallel+1, err)
		}
		if e, _ := errors.AsType[*Error](answers[len(to)-1].Err); e == nil || e.Code != Canceled || e.Delivered != DeliveredNo || !e.Retry {
			t.Errorf("one whose turn never came: %v", e)
		}
	})
}

func TestSendManyMisuse(t *testing.T) {
	t.Parallel()
	h := &manyHost{}
	ctx, end := newContext(t.Context(), h, &Call{Kind: CallFunction}, Define("d", "1"))
	for name, f := range map[string]func() error{
		"first":  func() error { _, err := SendMany[int](ctx, nil, nil, First(-1)); return err },
		"quorum": func() error { _, err := SendMany[int](ctx, nil, nil, Quorum(-1)); return err },
		"input":  func() error { _, err := SendMany[int](ctx, []AgentID{{1}}, func() {}); return err },
		"ended":  func() error { end(); _, err := SendMany[int](ctx, []AgentID{{1}}, nil); return err },
	} {
		if name == "ended" {
			defer func() {
				if err := f(); !errors.Is(err, HandlerFailed) {
					t.Errorf("after the call: %v", err)
				}
			}()
			continue
		}
		if err := f(); !errors.Is(err, HandlerFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.all != 0 {
		t.Errorf("%d messages were sent", h.all)
	}
}

func ExampleSendMany() {
	_ = Function("ask", func(c *Context, witnesses []AgentID) (int, error) {
		answers, err := SendMany[bool](c, witnesses, "did you see it?", First(3), Quorum(3))
		if err != nil {
			return 0, err // three can't be had
		}
		yes := 0
		for _, a := range answers {
			if a.Err == nil && a.Value {
				yes++
			}
		}
		return yes, nil
	})
	fmt.Println("three witnesses are enough")
	// Output: three witnesses are enough
}
