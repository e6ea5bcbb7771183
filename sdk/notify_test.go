package sdk

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// partHost takes notifications in parts. One never answers before its context ends,
// those from a number on are refused.
type partHost struct {
	Host   // nil: nothing else is called
	refuse int
	stuck  AgentID

	mu    sync.Mutex // guards what follows
	parts []int
	took  map[AgentID]bool
}

func (h *partHost) Notify(ctx context.Context, n Notice) ([]error, error) {
	h.mu.Lock()
	h.parts = append(h.parts, len(n.To))
	refused := h.refuse > 0 && len(h.parts) >= h.refuse
	for _, to := range n.To {
		h.took[to] = !refused
	}
	h.mu.Unlock()
	if refused {
		return nil, &Error{Code: Canceled, Side: SideCaller, Delivered: DeliveredNo, Retry: true}
	}
	if !n.Wait {
		return nil, nil
	}
	results := make([]error, len(n.To))
	for i, to := range n.To {
		if to == h.stuck {
			<-ctx.Done()
			results[i] = &Error{Code: Timeout, Side: SideNode}
		}
	}
	return results, nil
}

func manyAgents(n int) (list []AgentID) {
	for i := range n {
		list = append(list, AgentID{byte(i), byte(i >> 8), 1})
	}
	return list
}

func notifyContext(t *testing.T, ctx context.Context, h Host) *Context {
	c, end := newContext(ctx, h, &Call{Kind: CallFunction}, Define("d", "1"))
	t.Cleanup(end)
	return c
}

// More agents than one Notice takes: one who does not answer keeps no other's waiting.
func TestNotifyInParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		to := manyAgents(2*MaxNotified + 1)
		h := &partHost{took: map[AgentID]bool{}, stuck: to[0]}
		ctx, cancel := context.WithCancel(t.Context())
		type answer struct {
			results []error
			err     error
		}
		done := make(chan answer, 1)
		go func() {
			results, err := NotifyAndWait(notifyContext(t, ctx, h), to, 1)
			done <- answer{results, err}
		}()
		synctest.Wait()
		h.mu.Lock()
		if len(h.took) != len(to) || len(h.parts) != 3 {
			t.Errorf("beside one who does not answer %d of %d are sent to, in parts of %v", len(h.took), len(to), h.parts)
		}
		h.mu.Unlock()
		cancel()
		a := <-done
		if a.err != nil || len(a.results) != len(to) || !errors.Is(a.results[0], Timeout) || a.results[1] != nil || a.results[len(to)-1] != nil {
			t.Errorf("%d results, the first %v; %v", len(a.results), a.results[0], a.err)
		}
	})
}

// An error says that nothing was sent only where that is so.
func TestNotifyRefusedInTheMiddle(t *testing.T) {
	t.Parallel()
	to := manyAgents(MaxNotified + 1)
	for name, c := range map[string]struct {
		refuse    int
		delivered Delivered
	}{"the first part": {1, DeliveredNo}, "the second part": {2, DeliveredUnknown}} {
		h := &partHost{took: map[AgentID]bool{}, refuse: c.refuse}
		e, is := errors.AsType[*Error](Notify(notifyContext(t, t.Context(), h), to, 1))
		if !is || e.Delivered != c.delivered || e.Retry != (c.delivered == DeliveredNo) {
			t.Errorf("%s is refused: %+v", name, e)
		}
		h = &partHost{took: map[AgentID]bool{}, refuse: c.refuse}
		results, err := NotifyAndWait(notifyContext(t, t.Context(), h), to, 1)
		if c.refuse == 1 {
			if err == nil || results != nil {
				t.Errorf("all is refused: %d results, %v", len(results), err)
			}
			continue
		}
		if err != nil || len(results) != len(to) {
			t.Fatalf("%s is refused: %d results, %v", name, len(results), err)
		}
		for i, r := range results {
			if h.took[to[i]] != (r == nil) {
				t.Errorf("%s is refused: agent %d took it: %t, and its sender is told %v", name, i, h.took[to[i]], r)
			}
		}
	}
}

// optionHost keeps the notices that it is given.
type optionHost struct {
	Host // nil: nothing else is called
	got  []Notice
}

func (h *optionHost) Notify(_ context.Context, n Notice) ([]error, error) {
	h.got = append(h.got, n)
	return make([]error, len(n.To)), nil
}

// A notification goes in another's name with its proof, every part of it; a receipt
// there is none of.
func TestNotifyOptions(t *testing.T) {
	t.Parallel()
	h := &optionHost{}
	c := notifyContext(t, t.Context(), h)
	if err := Notify(c, manyAgents(MaxNotified+1), "x", OnBehalf(Proof("proof"))); err != nil {
		t.Fatal(err)
	}
	if _, err := NotifyAndWait(c, manyAgents(MaxNotified+1), "x", OnBehalf(Proof("proof"))); err != nil {
		t.Fatal(err)
	}
	for i, n := range h.got {
		if string(n.Behalf) != "proof" || n.Wait != (i > 1) || len(n.Payload) == 0 {
			t.Errorf("part %d: %d agents, proof %q, waits %t", i, len(n.To), n.Behalf, n.Wait)
		}
	}
	if len(h.got) != 4 {
		t.Errorf("%d parts", len(h.got))
	}
	err := Notify(c, manyAgents(1), "x", WithReceipt())
	if e, ok := errors.AsType[*Error](err); !ok || e.HandlerCode != HandlerCodeInput || len(h.got) != 4 {
		t.Errorf("with a receipt: %v", err)
	}
}
