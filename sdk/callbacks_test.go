package sdk

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

type bid struct{ Amount int }

// bids takes bids up to its properties' limit, and no secret ones.
func bids(parts ...Part) *Definition {
	return Define("bids", "1", append(parts,
		Function("bid", func(c *Context, amount int) (None, error) {
			_, err := c.Commit("bid", bid{amount}, AsPublic)
			return None{}, err
		}),
		Function("odd", func(c *Context, entryType string) (None, error) {
			_, err := c.Commit(entryType, "x")
			return None{}, err
		}),
		Validate(func(e *Candidate) error {
			var b bid
			var rules struct{ Limit int }
			if err := errors.Join(e.Decode(&b), e.Properties(&rules)); err != nil {
				return err
			}
			switch {
			case e.Type != "bid":
				return errors.New("of no type that is known")
			case e.Visibility != Public:
				return errors.New("a secret bid")
			case b.Amount > rules.Limit && e.Own:
				return Fail("bids.limit", "%d dollars", b.Amount)
			case b.Amount > rules.Limit:
				return errors.New("another agent's bid of too much")
			case b.Amount < 0:
				panic("as asked")
			}
			return nil
		}))...)
}

func TestCommitIsValidated(t *testing.T) {
	t.Parallel()
	d := bids()
	if err := d.Setup(t.Context(), Setup{Agent: AgentID{1}, Properties: []byte(`{"Limit": 50}`)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		function string
		in       any
		code     string
		text     string
	}{
		{"bid", 50, "", ""},
		{"bid", 51, HandlerCodeValidate, `entry "bid" is not valid: bids.limit: 51 dollars`},
		{"bid", -1, HandlerCodePanic, "panicked"},
		{"odd", "note", HandlerCodeValidate, `entry "note" is not valid`},
		{"odd", "parley.x", HandlerCodeCommit, "the node's own"},
	} {
		h := &fakeHost{}
		_, err := call(t, d, h, c.function, c.in)
		if c.code == "" {
			if err != nil || len(h.staged) != 1 {
				t.Errorf("%v: %v, %d staged", c.in, err, len(h.staged))
			}
			continue
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != HandlerFailed || e.HandlerCode != c.code || !strings.Contains(e.Text, c.text) || len(h.staged) != 0 {
			t.Errorf("%v: got %v, %d staged", c.in, err, len(h.staged))
		}
	}
}

func TestValidateCall(t *testing.T) {
	t.Parallel()
	d := bids()
	if err := d.Setup(t.Context(), Setup{Agent: AgentID{1}, Properties: []byte(`{"Limit": 50}`)}); err != nil {
		t.Fatal(err)
	}
	record := func(author byte, amount int) Record {
		b, err := Marshal(bid{amount})
		if err != nil {
			t.Fatal(err)
		}
		return Record{Header: Header{Author: AgentID{author}, EntryType: "bid", Visibility: Public}, Content: b}
	}
	garbage := record(2, 5)
	garbage.Content = []byte{0xc1}
	for _, c := range []struct {
		r          Record
		code, text string
	}{
		{record(2, 50), "", ""},
		{record(2, 51), HandlerCodeValidate, "another agent's"},
		{record(1, 51), HandlerCodeValidate, "bids.limit"},
		{garbage, HandlerCodeValidate, "not valid"},
		{record(2, -1), HandlerCodePanic, "panicked"},
	} {
		_, err := d.Serve(t.Context(), &fakeHost{}, &Call{Kind: CallValidate, Records: []Record{c.r}})
		e, _ := errors.AsType[*Error](err)
		if c.code == "" && err != nil || c.code != "" && (e == nil || e.HandlerCode != c.code || !strings.Contains(e.Text, c.text)) {
			t.Errorf("%+v: got %v, want %s", c.r, err, c.code)
		}
	}
}

func TestNodesOwnCalls(t *testing.T) {
	t.Parallel()
	var told []uint64
	all := bids(Init(func(c *Context) error { _, err := c.Commit("bid", bid{1}, AsPublic); return err }),
		PostCommit(func(c *Context, rs []Record) error {
			for _, r := range rs {
				told = append(told, r.Header.Seq)
			}
			return nil
		}))
	if err := all.Setup(t.Context(), Setup{Properties: []byte(`{"Limit": 50}`)}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Definition{all, all.Clone()} {
		desc, err := d.Describe(t.Context())
		if err != nil || !desc.Init || !desc.Validate || !desc.PostCommit {
			t.Errorf("%+v, %v", desc, err)
		}
	}
	h := &fakeHost{}
	if _, err := all.Serve(t.Context(), h, &Call{Kind: CallInit}); err != nil || len(h.staged) != 1 {
		t.Errorf("init: %v, %d staged", err, len(h.staged))
	}
	records := []Record{{Header: Header{Seq: 3}}, {Header: Header{Seq: 4}}}
	if _, err := all.Serve(t.Context(), h, &Call{Kind: CallPostCommit, Records: records}); err != nil || !slices.Equal(told, []uint64{3, 4}) {
		t.Errorf("post_commit: %v, %d", err, told)
	}
	none := Define("none", "1", Function("f", nothing))
	if desc, err := none.Describe(t.Context()); err != nil || desc.Init || desc.Validate || desc.PostCommit {
		t.Errorf("%+v, %v", desc, err)
	}
	for kind, name := range map[CallKind]string{CallInit: "init", CallValidate: "validate", CallPostCommit: "post_commit"} {
		_, err := none.Serve(t.Context(), h, &Call{Kind: kind, Records: records[:1]})
		if !errors.Is(err, NoHandler) || !strings.Contains(err.Error(), "none has no "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := Define("twice", "1", Function("f", nothing), Init(nil), Validate(nil), PostCommit(nil))
	if _, err := twice.Describe(t.Context()); err == nil || strings.Count(err.Error(), "no body") != 3 {
		t.Errorf("without bodies: %v", err)
	}
}

func TestCallKindCommits(t *testing.T) {
	for kind, want := range map[CallKind]bool{0: false, CallFunction: true, CallReceive: true, CallInit: true,
		CallValidate: false, CallPostCommit: true, CallNotified: true, CallOperator: true, CallOperator + 1: false} {
		if kind.Commits() != want {
			t.Errorf("kind %d", kind)
		}
	}
}

// That another agent is busy does not mean that this handler is.
func TestNestedErrorsOfNodesOwnCalls(t *testing.T) {
	t.Parallel()
	send := func(c *Context) error { _, err := Send[None](c, AgentID{9}, 1); return err }
	d := Define("sends", "1", Function("f", nothing), Init(send), PostCommit(func(c *Context, _ []Record) error { return send(c) }))
	h := &fakeHost{err: &Error{Code: Busy, Side: SideNode, Delivered: DeliveredNo, Retry: true}}
	for _, kind := range []CallKind{CallInit, CallPostCommit} {
		_, err := d.Serve(t.Context(), h, &Call{Kind: kind})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != HandlerFailed || e.HandlerCode != Busy.Name() || e.Side != SideHandler || e.Delivered != DeliveredYes || e.Retry {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}
