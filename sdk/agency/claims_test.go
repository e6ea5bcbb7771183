package agency

import (
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

var dna = sdk.DNAHash{1}

func heldBy(grantor, n byte, functions ...string) HeldClaim {
	return HeldClaim{DNA: dna, Claim: sdk.Claim{Grantor: agent(grantor), Grant: sdk.Hash{grantor, n}, Secret: sdk.Secret{n}, Functions: functions}}
}

func toldBy(grantor, n byte) HeldClaim {
	c := heldBy(grantor, n)
	c.Secret, c.Told = sdk.Secret{}, true
	return c
}

func TestChoose(t *testing.T) {
	t.Parallel()
	table := NewClaims(100, 10)
	put := func(c HeldClaim) {
		if _, e := table.Add(start, c); e != nil {
			t.Fatal(e)
		}
	}
	choose := func(want byte, tried ...sdk.Hash) {
		t.Helper()
		c, ok := table.Choose(start, dna, agent(1), "bid", tried)
		if got := c.Grant[1]; ok != (want != 0) || got != want {
			t.Errorf("chosen: %d (%t), want %d", got, ok, want)
		}
	}
	choose(0)
	put(heldBy(2, 1, "bid")) // of another grantor
	put(heldBy(1, 2, "other"))
	put(toldBy(1, 3)) // without a secret it is of no use
	other := heldBy(1, 4)
	other.DNA = sdk.DNAHash{2}
	put(other)
	gone := heldBy(1, 5)
	gone.Expires = start
	put(gone)
	choose(0)
	put(heldBy(1, 6)) // all functions
	choose(6)
	short := heldBy(1, 7, "bid", "ask")
	short.Expires = start.Add(time.Minute)
	put(short)
	choose(7)
	put(heldBy(1, 8, "bid", "ask")) // as specific, and lasts
	choose(8)
	put(heldBy(1, 9, "bid"))
	choose(9)
	choose(8, sdk.Hash{1, 9})
	table.Refuse(ClaimKey{dna, agent(1), sdk.Hash{1, 9}}, "revoked")
	choose(8)
	table.Refuse(ClaimKey{dna, agent(1), sdk.Hash{1, 9}}, "")
	choose(9)
	for n := byte(6); n <= 9; n++ {
		if !table.Remove(ClaimKey{dna, agent(1), sdk.Hash{1, n}}) {
			t.Errorf("claim %d was not there", n)
		}
	}
	choose(0)
}

func TestClaimsAreBounded(t *testing.T) {
	t.Parallel()
	const most, each = 10, 3
	table := NewClaims(most, each)
	now := start
	put := func(c HeldClaim) (gone []ClaimKey, e *sdk.Error) {
		now = now.Add(time.Second)
		return table.Add(now, c)
	}
	for n := range byte(5) { // one grantor: the oldest goes
		if gone, e := put(toldBy(1, n)); e != nil || len(gone) != max(0, int(n)-each+1) && len(gone) != 1 {
			t.Fatalf("told %d: %v, %v", n, gone, e)
		}
	}
	if list := table.List(now); len(list) != each || list[0].Grant[1] != 2 {
		t.Fatalf("got %+v", list)
	}
	// Own ones push out what was told, the oldest of who told most first.
	put(toldBy(2, 1))
	for n := range byte(9) {
		if _, e := put(heldBy(3, n)); e != nil {
			t.Fatal(e)
		}
	}
	if _, ok := table.Get(ClaimKey{dna, agent(2), sdk.Hash{2, 1}}); !ok {
		t.Error("who told once went before who told three times")
	}
	if _, e := put(heldBy(3, 100)); e != nil {
		t.Fatal(e)
	}
	if _, e := put(heldBy(3, 101)); e == nil || e.Limit.Setting != "max-claims" {
		t.Errorf("an own one too many: %v", e)
	}
	if _, e := put(toldBy(4, 1)); e == nil {
		t.Error("a told one pushed out an own one")
	}
	if n := len(table.List(now)); n != most {
		t.Errorf("%d claims", n)
	}
	if _, e := put(heldBy(3, 100)); e != nil { // it is there
		t.Errorf("again: %v", e)
	}
}

func TestToldAndOwn(t *testing.T) {
	t.Parallel()
	table := NewClaims(10, 10)
	own := heldBy(1, 1, "bid")
	if _, e := table.Add(start, own); e != nil {
		t.Fatal(e)
	}
	if _, e := table.Add(start, toldBy(1, 1)); e != nil {
		t.Fatal(e)
	}
	if c, _ := table.Get(own.Key()); c.Told || c.Secret.IsZero() {
		t.Errorf("what was told took the place of an own one: %+v", c)
	}
	if _, e := table.Add(start, toldBy(1, 2)); e != nil {
		t.Fatal(e)
	}
	if _, e := table.Add(start, heldBy(1, 2)); e != nil {
		t.Fatal(e)
	}
	if c, _ := table.Get(ClaimKey{dna, agent(1), sdk.Hash{1, 2}}); c.Told || c.Secret.IsZero() {
		t.Errorf("an own one did not take the place of a told one: %+v", c)
	}
	late := heldBy(1, 3)
	late.Expires = start.Add(time.Minute)
	if _, e := table.Add(start, late); e != nil {
		t.Fatal(e)
	}
	if gone := table.Expire(start.Add(time.Minute)); len(gone) != 1 || gone[0] != late.Key() {
		t.Errorf("expired: %v", gone)
	}
	if table.Restore(own) || !table.Restore(late) || len(table.List(start)) != 3 {
		t.Error("restored other than what was not there")
	}
}
