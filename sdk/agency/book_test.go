package agency

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// add puts a grant under the name {n} into the book.
func add(b *Book, n byte, g sdk.Grant, secret ...sdk.Secret) sdk.Hash {
	e := Entry{Nonce: [16]byte{n}, Grant: g}
	for _, s := range secret {
		e.Secret = SecretHash(s)
	}
	b.Add(sdk.Hash{n}, e, start.Add(time.Duration(n)), 0)
	return sdk.Hash{n}
}

func assigned(to sdk.AgentID, functions ...string) sdk.Grant {
	return sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{to}, Functions: functions}
}

func claimOf(name sdk.Hash, s sdk.Secret) []byte { return slices.Concat(name[:], s[:]) }

func TestTake(t *testing.T) {
	t.Parallel()
	secret := sdk.Secret{1, 2, 3}
	transferable := sdk.Grant{Kind: sdk.GrantTransferable, Functions: []string{"bid"}}
	with := func(g sdk.Grant, change func(*sdk.Grant)) sdk.Grant { change(&g); return g }
	for _, c := range []struct {
		name  string
		fill  func(b *Book)
		ask   Ask
		after time.Duration
		want  string // "" is allowed, else a part of the text
		code  sdk.Code
	}{
		{name: "nothing", ask: Ask{Caller: agent(1), Function: "bid"}, want: "no grant", code: sdk.Refused},
		{name: "assigned", fill: func(b *Book) { add(b, 1, assigned(agent(1), "bid")) }, ask: Ask{Caller: agent(1), Function: "bid"}},
		{name: "assigned to another", fill: func(b *Book) { add(b, 1, assigned(agent(2), "bid")) }, ask: Ask{Caller: agent(1), Function: "bid"}, want: "no grant", code: sdk.Refused},
		{name: "another function", fill: func(b *Book) { add(b, 1, assigned(agent(1), "bid")) }, ask: Ask{Caller: agent(1), Function: "ask"}, want: "no grant", code: sdk.Refused},
		{name: "all functions", fill: func(b *Book) { add(b, 1, assigned(agent(1))) }, ask: Ask{Caller: agent(1), Function: "ask"}},
		{name: "unrestricted", fill: func(b *Book) { add(b, 1, sdk.Grant{Kind: sdk.GrantUnrestricted}) }, ask: Ask{Caller: agent(9), Function: "ask"}},
		{name: "secret", fill: func(b *Book) { add(b, 1, transferable, secret) }, ask: Ask{Caller: agent(1), Function: "bid", Claim: claimOf(sdk.Hash{1}, secret)}},
		{name: "wrong secret", fill: func(b *Book) { add(b, 1, transferable, secret) }, ask: Ask{Caller: agent(1), Function: "bid", Claim: claimOf(sdk.Hash{1}, sdk.Secret{9})}, want: "no grant", code: sdk.Refused},
		{name: "no secret", fill: func(b *Book) { add(b, 1, transferable, secret) }, ask: Ask{Caller: agent(1), Function: "bid"}, want: "no grant", code: sdk.Refused},
		{name: "secret of another", fill: func(b *Book) { add(b, 1, transferable, secret); add(b, 2, transferable, sdk.Secret{5}) },
			ask: Ask{Caller: agent(1), Function: "bid", Claim: claimOf(sdk.Hash{2}, secret)}, want: "no grant", code: sdk.Refused},
		{name: "the claim of an assigned one", fill: func(b *Book) { add(b, 1, assigned(agent(2))) },
			ask: Ask{Caller: agent(1), Function: "bid", Claim: claimOf(sdk.Hash{1}, sdk.Secret{})}, want: "no grant", code: sdk.Refused},
		{name: "a cut claim", fill: func(b *Book) { add(b, 1, transferable, secret) }, ask: Ask{Caller: agent(1), Function: "bid", Claim: secret[:]}, want: "no grant", code: sdk.Refused},
		{name: "revoked secret, with it", fill: func(b *Book) { b.Revoke(start, add(b, 1, transferable, secret)) },
			ask: Ask{Caller: agent(1), Function: "bid", Claim: claimOf(sdk.Hash{1}, secret)}, want: "revoked", code: sdk.Refused},
		{name: "revoked secret, without", fill: func(b *Book) { b.Revoke(start, add(b, 1, transferable, secret)) },
			ask: Ask{Caller: agent(1), Function: "bid"}, want: "no grant", code: sdk.Refused},
		{name: "revoked", fill: func(b *Book) { b.Revoke(start, add(b, 1, assigned(agent(1)))) }, ask: Ask{Caller: agent(1), Function: "bid"}, want: "revoked", code: sdk.Refused},
		{name: "revoked, and another", fill: func(b *Book) { b.Revoke(start, add(b, 1, assigned(agent(1)))); add(b, 2, assigned(agent(1))) }, ask: Ask{Caller: agent(1), Function: "bid"}},
		{name: "before its end", fill: func(b *Book) {
			add(b, 1, with(assigned(agent(1)), func(g *sdk.Grant) { g.Expires = start.Add(time.Minute) }))
		}, ask: Ask{Caller: agent(1), Function: "bid"}, after: time.Minute - 1},
		{name: "at its end", fill: func(b *Book) {
			add(b, 1, with(assigned(agent(1)), func(g *sdk.Grant) { g.Expires = start.Add(time.Minute) }))
		}, ask: Ask{Caller: agent(1), Function: "bid"}, after: time.Minute, want: "expired", code: sdk.Refused},
		{name: "largest input", fill: func(b *Book) { add(b, 1, with(assigned(agent(1)), func(g *sdk.Grant) { g.MaxPayload = 5 })) }, ask: Ask{Caller: agent(1), Function: "bid", Payload: 5}},
		{name: "too large", fill: func(b *Book) { add(b, 1, with(assigned(agent(1)), func(g *sdk.Grant) { g.MaxPayload = 5 })) }, ask: Ask{Caller: agent(1), Function: "bid", Payload: 6}, want: "smaller", code: sdk.TooLarge},
		{name: "too large for one", fill: func(b *Book) {
			add(b, 1, with(assigned(agent(1)), func(g *sdk.Grant) { g.MaxPayload = 5 }))
			add(b, 2, sdk.Grant{Kind: sdk.GrantUnrestricted, MaxPayload: 6})
		}, ask: Ask{Caller: agent(1), Function: "bid", Payload: 6}},
	} {
		b := NewBook(10)
		if c.fill != nil {
			c.fill(b)
		}
		use, e := b.Take(start.Add(c.after), &c.ask)
		switch {
		case c.want == "":
			if e != nil || use == nil {
				t.Errorf("%s: refused: %v", c.name, e)
			}
		case e == nil:
			t.Errorf("%s: let in by %s", c.name, use.Grant)
		case e.Code != c.code || !strings.Contains(e.Error(), c.want) || e.Delivered != sdk.DeliveredNo || !e.Retry || e.Side != sdk.SideNode:
			t.Errorf("%s: %v", c.name, e)
		}
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	b := NewBook(10)
	g := assigned(agent(1))
	g.Uses = 3
	id := add(b, 1, g)
	ask := &Ask{Caller: agent(1), Function: "bid"}
	var last *Use
	for i := range 3 {
		use, e := b.Take(start, ask)
		if e != nil || use.Used != i+1 || use.Grant != id {
			t.Fatalf("use %d: %+v, %v", i, use, e)
		}
		last = use
	}
	if _, e := b.Take(start, ask); e == nil || !strings.Contains(e.Text, "spent") {
		t.Fatalf("a fourth use: %v", e)
	}
	b.GiveBack(last)
	if n, lasts := b.Used(id); n != 2 || !lasts {
		t.Errorf("used %d times after one was given back", n)
	}
	if _, e := b.Take(start, ask); e != nil {
		t.Errorf("what was given back is not there: %v", e)
	}
	// One that does not count its uses is taken first.
	free := add(b, 2, assigned(agent(1)))
	if use, e := b.Take(start, ask); e != nil || use.Grant != free || use.Used != 0 {
		t.Errorf("got %+v, %v", use, e)
	}
	// What was used before a restart counts.
	again := NewBook(10)
	again.Add(id, Entry{Grant: g}, start, 3)
	if _, e := again.Take(start, ask); e == nil {
		t.Error("the uses before a restart are forgotten")
	}
}

func TestRateOfGrants(t *testing.T) {
	t.Parallel()
	b := NewBook(10)
	g := sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{agent(1), agent(2)}, Rate: sdk.Rate{N: 2, Per: time.Minute}}
	add(b, 1, g)
	one, two := &Ask{Caller: agent(1), Function: "bid"}, &Ask{Caller: agent(2), Function: "bid"}
	for _, ask := range []*Ask{one, two} { // the rate is that of all its users
		if _, e := b.Take(start, ask); e != nil {
			t.Fatal(e)
		}
	}
	_, e := b.Take(start.Add(time.Second), one)
	if e == nil || e.Code != sdk.Busy || e.Limit.Max != 2 || e.Limit.RetryAfter < 59*time.Second || e.Limit.RetryAfter > 60*time.Second {
		t.Fatalf("got %v", e)
	}
	later := start.Add(time.Second + e.Limit.RetryAfter)
	for i, want := range []bool{true, true, false} {
		if _, e := b.Take(later, one); (e == nil) != want {
			t.Errorf("%d, after the time that was told: %v", i, e)
		}
	}
	add(b, 2, assigned(agent(1)))
	if use, e := b.Take(later, one); e != nil || use.Grant != (sdk.Hash{2}) {
		t.Errorf("another grant does not help: %+v, %v", use, e)
	}
}

func TestBookIsBounded(t *testing.T) {
	t.Parallel()
	const most = 4
	b := NewBook(most)
	g := assigned(agent(1))
	g.Expires = start.Add(time.Hour)
	for i := range most {
		if e := b.Full(start, 0); e != nil {
			t.Fatalf("full with %d: %v", i, e)
		}
		add(b, byte(i+1), g)
	}
	if e := b.Full(start, 0); e == nil || e.Limit.Setting != "max-grants" || e.Limit.Max != most {
		t.Fatalf("not full: %v", e)
	}
	if _, ok := b.Revoke(start, sdk.Hash{1}); !ok {
		t.Fatal("not revoked")
	}
	if _, ok := b.Revoke(start, sdk.Hash{1}); ok {
		t.Error("revoked twice")
	}
	if b.Full(start, 0) != nil || b.Full(start, 1) == nil {
		t.Error("room for other than one after one was revoked")
	}
	if e := b.Full(start.Add(time.Hour), most-1); e != nil {
		t.Errorf("expired ones take room: %v", e)
	}
	// What is over is forgotten, the oldest first.
	for i := range 3 * maxEnded {
		name := sdk.Hash{byte(i), byte(i >> 8), 1}
		b.Add(name, Entry{Grant: assigned(agent(2))}, start, 0)
		if _, ok := b.Revoke(start, name); !ok {
			t.Fatal("not revoked")
		}
	}
	if len(b.grants) > maxEnded+most || len(b.ended) > maxEnded || len(b.byAgent[agent(2)]) > maxEnded {
		t.Errorf("%d grants, %d over, %d of one agent", len(b.grants), len(b.ended), len(b.byAgent[agent(2)]))
	}
	if len(b.byAgent[agent(1)]) != 0 {
		t.Error("the oldest are not forgotten")
	}
}

func TestHolders(t *testing.T) {
	t.Parallel()
	b := NewBook(10)
	id := add(b, 1, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{agent(1), agent(2)}})
	if holders, _ := b.Revoke(start, id); !slices.Equal(holders, []sdk.AgentID{agent(1), agent(2)}) {
		t.Errorf("told of an assigned one: %v", holders)
	}
	secret := sdk.Secret{1}
	id = add(b, 2, sdk.Grant{Kind: sdk.GrantTransferable}, secret)
	for i := range 2 * maxUsers {
		if _, e := b.Take(start, &Ask{Caller: sdk.AgentID{byte(i), byte(i >> 8)}, Claim: claimOf(id, secret)}); e != nil {
			t.Fatal(e)
		}
		if _, e := b.Take(start, &Ask{Caller: sdk.AgentID{}, Claim: claimOf(id, secret)}); e != nil {
			t.Fatal(e)
		}
	}
	if holders, _ := b.Revoke(start, id); len(holders) != maxUsers {
		t.Errorf("%d users are told", len(holders))
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	b := NewBook(10)
	g := assigned(agent(1))
	g.Expires = start.Add(time.Minute)
	add(b, 2, g)
	add(b, 1, assigned(agent(1), "bid"))
	b.Revoke(start, add(b, 3, assigned(agent(1))))
	list := b.List(start.Add(time.Hour))
	if len(list) != 2 || list[0].ID != (sdk.Hash{1}) || list[0].Expired || list[1].ID != (sdk.Hash{2}) || !list[1].Expired {
		t.Errorf("got %+v", list)
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	for _, r := range []sdk.Rate{{N: 1, Per: time.Second}, {N: 10, Per: time.Minute}, {N: 1000, Per: time.Second}, {N: 5, Per: 7}, {N: 3, Per: 24 * time.Hour}} {
		w := NewWindow(r)
		var in []time.Time
		now, step := start, max(1, r.Per/time.Duration(3*r.N))
		for range 20 * r.N {
			wait := w.Take(now)
			if wait == 0 {
				in = append(in, now)
			} else if late := wait - r.Per; late > max(2, r.Per/32) {
				t.Fatalf("%v: a wait of %s", r, wait)
			}
			if len(w.slots) > windowSlots+2 {
				t.Fatalf("%v: %d slots", r, len(w.slots))
			}
			now = now.Add(step)
		}
		for i := r.N; i < len(in); i++ {
			if d := in[i].Sub(in[i-r.N]); d < r.Per {
				t.Fatalf("%v: %d within %s", r, r.N+1, d)
			}
		}
		// It is no more than two parts in 64 stricter than it must be.
		if least := int(20*r.N*int(step)/int(r.Per+r.Per/16+2)) * r.N; len(in) < least-r.N {
			t.Errorf("%v: %d were let in, at least %d expected", r, len(in), least)
		}
	}
	for _, per := range []time.Duration{math.MaxInt64, math.MaxInt64 / 100 * 99, math.MaxInt64 / 2} { // longer than anybody lives
		w := NewWindow(sdk.Rate{N: 1, Per: per})
		if w.Take(start) != 0 || w.Take(start.Add(time.Hour)) <= 0 {
			t.Errorf("a second one within %s is let in", per)
		}
	}
	none := NewWindow(sdk.Rate{})
	for range 100 {
		if none.Take(start) != 0 {
			t.Fatal("no rate, and a wait")
		}
	}
}

// TestWindowClock: whoever sets the clock back does not get more, nor waits longer.
func TestWindowClock(t *testing.T) {
	t.Parallel()
	w := NewWindow(sdk.Rate{N: 2, Per: time.Minute})
	if w.Take(start) != 0 || w.Take(start.Add(-time.Hour)) != 0 {
		t.Fatal("two are let in")
	}
	if wait := w.Take(start.Add(-time.Hour)); wait <= 0 || wait > 61*time.Second {
		t.Errorf("a third waits %s", wait)
	}
}

// TestUsersOfAGrant: the last ones to come are told of its end, also those from before
// a restart.
func TestUsersOfAGrant(t *testing.T) {
	t.Parallel()
	b := NewBook(10)
	id := add(b, 1, sdk.Grant{Kind: sdk.GrantTransferable}, sdk.Secret{7})
	use := func(i int) {
		t.Helper()
		if _, e := b.Take(start, &Ask{Caller: sdk.AgentID{1, byte(i), byte(i >> 8)}, Function: "bid", Claim: claimOf(id, sdk.Secret{7})}); e != nil {
			t.Fatal(e)
		}
	}
	for i := range maxUsers + 3 {
		use(i)
		use(i)
	}
	users := b.Users(id)
	if len(users) != maxUsers || users[0] != (sdk.AgentID{1, 3}) {
		t.Errorf("%d users, the first is %s", len(users), users[0].Short())
	}
	if names := b.Touched(); len(names) != 1 || names[0] != id || len(b.Touched()) != 0 {
		t.Errorf("touched: %v", names)
	}
	b.SetUsers(id, users[1:])
	if holders, ok := b.Revoke(start, id); !ok || len(holders) != maxUsers-1 || len(b.Users(id)) != 0 {
		t.Errorf("%d are told, %t", len(holders), ok)
	}
}
