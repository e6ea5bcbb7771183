package agency

import (
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

func TestRules(t *testing.T) {
	t.Parallel()
	a, b, c := agent(1), agent(2), agent(3)
	var none *Rules
	if !none.IsZero() || none.Hears(a) != nil || !none.Free(a) || none.Limit(a, Requests) != 0 {
		t.Error("no rules say something")
	}
	blocked := none.With(a, Rule{Blocked: true})
	if e := blocked.Hears(a); e == nil || e.Code != sdk.Refused || e.Text != "blocked" || e.Delivered != sdk.DeliveredNo {
		t.Errorf("a blocked agent: %v", e)
	}
	if blocked.Hears(b) != nil || !blocked.Free(b) || blocked.Free(a) || !none.IsZero() {
		t.Error("a rule reaches others, or changed what it came from")
	}
	allowed := blocked.With(b, Rule{Allowed: true}).With(a, Rule{Blocked: true, Allowed: true})
	if allowed.Hears(b) != nil || allowed.Hears(c) == nil || allowed.Hears(a) == nil || !allowed.AllowedOnly() {
		t.Error("an allow list: only those on it, and no blocked one")
	}
	open := allowed.With(a, Rule{}).With(b, Rule{})
	if open.AllowedOnly() || !open.IsZero() || open.Hears(c) != nil {
		t.Errorf("what was taken back is there: %+v", open)
	}
	limited := none.With(sdk.AgentID{}, Rule{Limits: [limits]int{10, 0, 5}, Blocked: true}).With(a, Rule{Limits: [limits]int{Unlimited, 7, Unset}})
	for _, w := range []struct {
		agent       sdk.AgentID
		limit, want int
	}{{a, Requests, 0}, {a, Bytes, 7}, {a, Signals, 5}, {b, Requests, 10}, {b, Bytes, 0}, {b, Signals, 5}} {
		if got := limited.Limit(w.agent, w.limit); got != w.want {
			t.Errorf("%s of %v: %d, want %d", LimitNames[w.limit], w.agent[0], got, w.want)
		}
	}
	if limited.Hears(b) != nil || limited.Free(b) {
		t.Error("a rule of all agents blocks, or is none")
	}
	if (Rule{Limits: [limits]int{0, -2, 0}}).Check() == nil {
		t.Error("a limit of -2 is taken")
	}
	for i, name := range LimitNames {
		if got, err := ParseLimit(name); err != nil || got != i {
			t.Errorf("%s is read as %d, %v", name, got, err)
		}
	}
	if _, err := ParseLimit("agent-other"); err == nil {
		t.Error("a limit that is none")
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	a, b := agent(1), agent(2)
	rules := (*Rules)(nil).With(sdk.AgentID{}, Rule{Limits: [limits]int{2, 100, 1}})
	l := NewLoad()
	begin := func(who sdk.AgentID, amount Amount, want string) {
		t.Helper()
		switch e := l.Begin(rules, who, amount); {
		case want == "" && e != nil:
			t.Fatalf("refused: %v", e)
		case want == "":
		case e == nil || e.Limit == nil || e.Limit.Setting != want || e.Delivered != sdk.DeliveredNo || !e.Retry:
			t.Fatalf("got %v, want the limit %s", e, want)
		case e.Code != sdk.Busy && e.Limit.Value <= e.Limit.Max:
			t.Fatalf("got %v", e)
		}
	}
	begin(a, Amount{1, 60}, "")
	begin(a, Amount{1, 41}, "agent-bytes")
	begin(a, Amount{1, 40}, "")
	begin(a, Amount{1, 0}, "agent-requests")
	begin(b, Amount{1, 100}, "") // another agent's
	begin(b, Amount{1, 101}, "agent-bytes")
	if e := l.Begin(rules, b, Amount{1, 101}); e.Code != sdk.TooLarge || !strings.Contains(e.Error(), "100") {
		t.Errorf("what never fits: %v", e)
	}
	begin(a, Amount{Signals: 1}, "")
	begin(a, Amount{Signals: 1}, "agent-signals")
	if got := l.Of(a); got != (Amount{2, 100, 1}) {
		t.Errorf("counted: %v", got)
	}
	rules = nil // the limits change meanwhile
	l.End(a, Amount{1, 60})
	l.End(a, Amount{1, 40})
	l.End(a, Amount{Signals: 1})
	l.End(b, Amount{1, 100})
	if len(l.agents) != 0 {
		t.Errorf("%d agents are kept for nothing", len(l.agents))
	}
}
