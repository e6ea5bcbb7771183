package node

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

func TestTellsWaitTheirTurn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var q tells
	if next, at := q.next(now); next != nil || !at.IsZero() {
		t.Fatalf("an empty queue has %+v at %s", next, at)
	}
	one := &tell{to: sdk.AgentID{1}, grant: sdk.Hash{1}, due: now}
	two := &tell{to: sdk.AgentID{2}, grant: sdk.Hash{1}, due: now.Add(time.Second)}
	q.add(two)
	q.add(one)
	if next, _ := q.next(now); next != one {
		t.Fatalf("got %+v", next)
	}
	if next, at := q.next(now); next != nil || !at.Equal(two.due) {
		t.Fatalf("got %+v, due at %s", next, at)
	}
	pauses, at := []time.Duration(nil), now
	for q.again(at, one) {
		pauses = append(pauses, one.due.Sub(at))
		at = one.due
		for {
			next, _ := q.next(at)
			if next == one {
				break
			}
			if next == nil {
				t.Fatal("it waits no more")
			}
		}
	}
	if len(pauses) != tellTries-1 || pauses[0] != tellPause || pauses[1] != 2*tellPause || pauses[len(pauses)-1] != tellPauseMax {
		t.Errorf("pauses %v", pauses)
	}
	// A grant's end takes the place of what waits of the grant, and not the other way.
	q = tells{}
	over := &tell{to: one.to, grant: one.grant, over: true, due: now}
	q.add(one)
	q.add(over)
	q.add(one)
	if len(q.waiting) != 1 || q.waiting[0] != over {
		t.Errorf("%d wait, the first is %+v", len(q.waiting), q.waiting[0])
	}
	if !q.again(now, &tell{to: one.to, grant: one.grant}) || len(q.waiting) != 1 || !q.waiting[0].over {
		t.Error("what was tried before took the place of what is newer")
	}
	q = tells{}
	for i := range tellQueue + 3 {
		q.add(&tell{to: sdk.AgentID{byte(i), byte(i >> 8)}, due: now})
	}
	if len(q.waiting) != tellQueue || q.lost != 3 || q.waiting[0].to != (sdk.AgentID{3}) {
		t.Errorf("%d wait, %d were let go", len(q.waiting), q.lost)
	}
}

func testTold() map[string]told {
	return map[string]told{
		"tell-granted": {DNA: make([]byte, 32), Grant: bytes.Repeat([]byte{7}, 32), Functions: []string{"bid", "highest"}, Expires: 1_800_000_000_000_000},
		"tell-over":    {DNA: make([]byte, 32), Grant: bytes.Repeat([]byte{7}, 32), Over: true},
	}
}

// testProofHeaders are of messages and notifications on behalf of somebody, whose
// proof goes in the header and in front of the body.
func testProofHeaders() (list []outgoing) {
	dna := sdk.DNA{Name: "auction", Integrity: "1"}
	for _, h := range []messageHeader{{}, {Notified: true, Order: order{run: 7, seq: 3, base: 2}.encode()}} {
		for _, size := range []int{252, headerProof + 1} {
			h.Behalf = bytes.Repeat([]byte{7}, size)
			list = append(list, outgoing{app: &app{name: dna.Name, hash: dna.Hash()}, payload: []byte("payload"), body: pack(h.Behalf, []byte("payload")), header: h})
		}
	}
	return list
}

func TestAgencyVectors(t *testing.T) {
	t.Parallel()
	var got []struct {
		name  string
		bytes []byte
	}
	add := func(name string, b []byte, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got = append(got, struct {
			name  string
			bytes []byte
		}{name, b})
	}
	dna := sdk.DNA{Name: "auction", Integrity: "1"}
	for _, h := range []messageHeader{{Function: "bid"}, {Function: "bid", Claim: bytes.Repeat([]byte{7}, agency.ClaimSize)}} {
		b, err := h.encode(dna.Hash(), dna.Name, 0)
		add(fmt.Sprintf("message-header-function-%d", len(h.Claim)), b, err)
		back, err := parseHeader(b)
		if err != nil || back.Function != h.Function || !bytes.Equal(back.Claim, h.Claim) || back.plain() {
			t.Errorf("%+v comes back as %+v, %v", h, back, err)
		}
	}
	for _, m := range testProofHeaders() {
		b, err := m.encodeHeader(time.Time{})
		kind := "message"
		if m.header.Notified {
			kind = "notification"
		}
		add(fmt.Sprintf("%s-header-proof-%d", kind, len(m.header.Behalf)), b, err)
		back, err := parseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if m.body != nil {
			add(fmt.Sprintf("%s-body-proof-%d", kind, len(m.header.Behalf)), m.wireBody(), nil)
		}
		payload, e := back.unpack(m.wireBody())
		if e != nil || string(payload) != "payload" || !bytes.Equal(back.Behalf, m.header.Behalf) || back.Notified != m.header.Notified {
			t.Errorf("%+v comes back as %+v, %v", m.header, back, e)
		}
	}
	for _, name := range []string{"tell-granted", "tell-over"} {
		m := testTold()[name]
		b, err := m.encode()
		add(name, b, err)
		if back, _, err := parseTold(b); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%+v comes back as %+v, %v", m, back, err)
		}
	}
	held := agency.HeldClaim{DNA: dna.Hash(), Since: time.UnixMicro(1_800_000_000_000_000), Told: true,
		Claim: sdk.Claim{Grantor: sdk.AgentID{1}, Grant: sdk.Hash{2}, Secret: sdk.Secret{3}, Functions: []string{"bid"}, Expires: time.UnixMicro(1_900_000_000_000_000).UTC()}}
	b, err := encodeClaim(&held)
	add("stored-claim", b, err)
	if back, err := decodeClaim(claimKeyBytes(held.Key()), b); err != nil || !reflect.DeepEqual(back, held) {
		t.Errorf("%+v comes back as %+v, %v", held, back, err)
	}
	checkVectors(t, "testdata/agency.hex", got)
}

func TestToldRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*told){
		"dna":       func(m *told) { m.DNA = m.DNA[1:] },
		"grant":     func(m *told) { m.Grant = nil },
		"expires":   func(m *told) { m.Expires = -1 },
		"function":  func(m *told) { m.Functions = []string{"No Name"} },
		"functions": func(m *told) { m.Functions = make([]string, sdk.MaxGrantFunctions+1) },
	} {
		m := testTold()["tell-granted"]
		change(&m)
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, c, err := parseTold(b); err == nil {
			t.Errorf("%s: read as %+v", name, c)
		}
	}
	most := testTold()["tell-granted"]
	most.Functions = nil
	for i := range sdk.MaxGrantFunctions {
		most.Functions = append(most.Functions, fmt.Sprintf("%064d", i))
	}
	if b, err := most.encode(); err != nil || len(b) > maxTell {
		t.Errorf("the largest has %d bytes, %v", len(b), err)
	}
	for _, b := range [][]byte{nil, {0xc1}, make([]byte, maxTell+1), []byte(strings.Repeat("x", 100))} {
		if _, c, err := parseTold(b); err == nil {
			t.Errorf("%.20x: read as %+v", b, c)
		}
	}
}

func FuzzTold(f *testing.F) {
	for _, m := range testTold() {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, c, err := parseTold(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, back, err := parseTold(again); err != nil || !reflect.DeepEqual(back, c) || !c.Secret.IsZero() {
			t.Fatalf("%x is read as %+v, which comes back as %+v, %v", b, c, back, err)
		}
	})
}

func FuzzStoredClaim(f *testing.F) {
	key := make([]byte, 96)
	f.Add(key, []byte("\x82\xa1t\x01\xa1v\x01"))
	f.Fuzz(func(t *testing.T, k, v []byte) {
		c, err := decodeClaim(k, v)
		if err != nil {
			return
		}
		b, err := encodeClaim(&c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeClaim(claimKeyBytes(c.Key()), b); err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v comes back as %+v, %v", c, back, err)
		}
	})
}
