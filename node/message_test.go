package node

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

// vector is one line of testdata/messages.hex: a name, and the bytes.
func checkVectors(t *testing.T, path string, got []struct {
	name  string
	bytes []byte
}) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Requests' headers and bodies on the wire (docs/wire.md): a name, then the bytes in hexadecimal.\n")
	for _, v := range got {
		fmt.Fprintf(&b, "%s %x\n", v.name, v.bytes)
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the encoding changed:\n%s\nwant\n%s", b.String(), want)
	}
}

func testRecord(t testing.TB, key byte) *dht.Record {
	t.Helper()
	priv := testPrivateKey(key)
	r, err := dht.Record{Key: dht.Key(newIdentity(priv).agent), Seq: 7, IssuedAt: time.UnixMilli(1_800_000_000_000), TTL: 2 * time.Hour,
		Flags: dht.FlagServer, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7480")}}.Sign(priv)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testDHTMessages(t testing.TB) ([]*dht.Request, []*dht.Response) {
	r1, r2 := testRecord(t, 1), testRecord(t, 2)
	k3 := dht.Key(newIdentity(testPrivateKey(3)).agent)
	requests := []*dht.Request{
		{Op: dht.OpPing, Seq: 9},
		{Op: dht.OpFind, Target: dht.NodeID(r1.Key)},
		{Op: dht.OpGet, Target: dht.NodeID(r1.Key), KnownSeq: 6},
		{Op: dht.OpPut, Seq: 7, Record: r1},
		{Op: dht.OpGet, Target: dht.NodeID(r1.Key), Known: []byte("12345678abcdefgh")},
	}
	responses := []*dht.Response{
		{Status: dht.StatusOK, Seq: 1, Time: 1_800_000_000_000},
		{Status: dht.StatusNone, Contacts: []dht.Contact{{Key: r2.Key, Record: r2},
			{Key: k3, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.3:1"), netip.MustParseAddrPort("[2001:db8::3]:65535")}}}},
		{Status: dht.StatusOK, Record: r1},
		{Status: dht.StatusBusy, RetryAfter: 1500, Reason: "records"},
	}
	return requests, responses
}

func TestMessageVectors(t *testing.T) {
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
	first, err := usual.encode(dna.Hash(), dna.Name, 0)
	add("message-header-first", first, err)
	again, err := usual.encode(dna.Hash(), dna.Name, 1500*time.Millisecond)
	add("message-header-again", again, err)
	requests, responses := testDHTMessages(t)
	for i, r := range requests {
		b, err := encodeDHTRequest(r)
		add(fmt.Sprintf("dht-request-%s-%d", strings.ToLower(r.Op.String()), i), b, err)
		back, err := decodeDHTRequest(b)
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%v comes back as %v, %v", r, back, err)
		}
	}
	for i, r := range responses {
		b, err := encodeDHTResponse(r)
		add(fmt.Sprintf("dht-response-%d", i), b, err)
		back, err := decodeDHTResponse(b)
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%v comes back as %v, %v", r, back, err)
		}
	}
	checkVectors(t, "testdata/messages.hex", got)
}

func TestMaximalDHTResponseFits(t *testing.T) {
	t.Parallel()
	var addrs []netip.AddrPort
	for i := range maxAdvertised {
		addrs = append(addrs, netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), 65535))
	}
	resp := &dht.Response{Status: dht.StatusNotClose, Reason: strings.Repeat("r", dht.MaxReason), Time: 1<<48 - 1, Seq: 1<<64 - 1, RetryAfter: 1<<32 - 1}
	for i := range dht.MaxContacts {
		k := testPrivateKey(byte(i + 1))
		r, err := dht.Record{Key: dht.Key(newIdentity(k).agent), Seq: 1, IssuedAt: time.UnixMilli(1_800_000_000_000), TTL: time.Hour, Flags: dht.FlagServer, Addrs: addrs}.Sign(k)
		if err != nil {
			t.Fatal(err)
		}
		resp.Contacts = append(resp.Contacts, dht.Contact{Key: r.Key, Record: r})
	}
	resp.Record = resp.Contacts[0].Record
	b, err := encodeDHTResponse(resp)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxDHTMessage {
		t.Fatalf("%d bytes, at most %d", len(b), maxDHTMessage)
	}
	if _, err := decodeDHTResponse(b); err != nil {
		t.Fatal(err)
	}
}

func FuzzMessageHeader(f *testing.F) {
	first, _ := usual.encode(sdk.DNAHash{1}, "auction", 0)
	again, _ := usual.encode(sdk.DNAHash{1}, "auction", time.Minute)
	f.Add(first, []byte{})
	f.Add(again, []byte("payload"))
	for _, m := range testProofHeaders() {
		b, err := m.encodeHeader(time.Time{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, m.wireBody())
	}
	f.Fuzz(func(t *testing.T, b, body []byte) {
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		packed := len(h.Behalf) == packedSize
		if payload, e := h.unpack(body); e == nil && (packed && !bytes.Equal(slices.Concat(h.Behalf, payload), body) || !packed && !bytes.Equal(payload, body)) {
			t.Fatalf("%x is taken apart into a proof of %d bytes and a payload of %d", body, len(h.Behalf), len(payload))
		}
		x, err := usual.encode(sdk.DNAHash(h.DNA), h.Name, h.age())
		if err != nil {
			t.Fatal(err)
		}
		h.Age = uint64(h.age() / time.Millisecond) // what is older comes back as old as can be
		back, err := parseHeader(x)
		if err != nil || !bytes.Equal(back.DNA, h.DNA) || back.Name != h.Name || back.Age != h.Age {
			t.Fatalf("%x is read as %+v, which comes back as %+v, %v", b, h, back, err)
		}
	})
}

func FuzzDHTRequest(f *testing.F) {
	requests, _ := testDHTMessages(f)
	for _, r := range requests {
		b, _ := encodeDHTRequest(r)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeDHTRequest(b)
		if err != nil {
			return
		}
		fuzzRoundTrip(t, r, encodeDHTRequest, decodeDHTRequest)
	})
}

func FuzzDHTResponse(f *testing.F) {
	_, responses := testDHTMessages(f)
	for _, r := range responses {
		b, _ := encodeDHTResponse(r)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeDHTResponse(b)
		if err != nil {
			return
		}
		fuzzRoundTrip(t, r, encodeDHTResponse, decodeDHTResponse)
	})
}

func fuzzRoundTrip[T any](t *testing.T, v *T, encode func(*T) ([]byte, error), decode func([]byte) (*T, error)) {
	b, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	back, err := decode(b)
	if err != nil || !reflect.DeepEqual(back, v) {
		t.Fatalf("%+v comes back as %+v, %v", v, back, err)
	}
}

func TestPeerErrors(t *testing.T) {
	t.Parallel()
	e := &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes, Text: "no", HandlerCode: "declined"}
	if got := parsePeerError(sdk.AppendError(nil, e)); got.Side != sdk.SideRemoteHandler || got.HandlerCode != "declined" {
		t.Errorf("got %v", got)
	}
	for _, b := range []string{"", "00", "c0", "81", "ffff"} {
		raw, _ := hex.DecodeString(b)
		if got := parsePeerError(raw); !errors.Is(got, sdk.OutcomeUnknown) || got.Delivered != sdk.DeliveredUnknown {
			t.Errorf("%s: got %v", b, got)
		}
	}
}
