package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// testKey is a key whose public half is an AgentID (sign bit 0).
func testKey(seed byte) (ed25519.PrivateKey, sdk.AgentID) {
	s := sha256.Sum256([]byte{seed})
	for {
		k := ed25519.NewKeyFromSeed(s[:])
		id := sdk.AgentID(k.Public().(ed25519.PublicKey))
		if id[31]&0x80 == 0 {
			return k, id
		}
		s = sha256.Sum256(s[:])
	}
}

func testAgent(seed byte) sdk.AgentID {
	_, id := testKey(seed)
	return id
}

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 89000, time.UTC)

func fullStatus() Status {
	addr := netip.MustParseAddrPort("192.0.2.1:7480")
	return Status{
		Agent: testAgent(1), Version: "1.2", Network: "n", DataDir: "/d", PID: 7,
		Listen: []netip.AddrPort{addr}, Advertised: []netip.AddrPort{addr, netip.MustParseAddrPort("[2001:db8::1]:1")},
		Since: testTime, Ready: true, NotReady: "x", Clock: "2 min off",
		Handlers: []HandlerStatus{{DNA: "auction", Hash: sdk.DNAHash{1}, Integrity: "1", Functions: []string{"a", "b"}, Receives: true,
			File: "f", SHA256: "00", State: "running", PID: 8, Since: testTime, Restarts: 1, LastError: "e", InFlight: 2, Queued: 3, Calls: 4}},
		Rejected: []RejectedFile{{"f2", "no plugin"}},
		Damaged:  []DamagedChain{{"d", "/p", 9, "bad signature"}},
		Sessions: []SessionStatus{{Agent: testAgent(2), Address: addr, Dialled: true, Since: testTime, LastHeard: testTime,
			InFlight: 1, BytesIn: 2, BytesOut: 3, ClockSkew: -time.Second}},
		DHT: DHTStatus{Contacts: 1, Records: 2, LastPublished: testTime, LastError: "e",
			EntriesPublished: 3, EntriesWaiting: 4, EntriesLeftOut: 5, LastEntryError: "f", EntrySearches: 6, Server: true, WhyClient: "w"},
		Traffic: Traffic{1, 2, 3, 4, 5, 6, 7},
		Limits:  []LimitStatus{{"payload", "max-payload", 1, 2}},
	}
}

func testRecord(seq uint64, content []byte) sdk.Record {
	key, author := testKey(1)
	r := sdk.Record{Header: sdk.Header{Version: sdk.HeaderVersion, DNA: sdk.DNAHash{1}, Author: author, Seq: seq, Time: testTime,
		Kind: sdk.KindEntry, EntryType: "bid", Visibility: sdk.Public, Entry: sdk.EntryHash(content),
		Cause: sdk.Cause{Kind: sdk.CallReceive, Message: sdk.MessageID{3}, From: testAgent(2)}}, Content: content}
	if seq > 0 {
		r.Header.Prev = sdk.Hash{byte(seq)}
	}
	h := r.Hash()
	copy(r.Signature[:], ed25519.Sign(key, sdk.SigningBytes(h)))
	return r
}

// same fails unless a call gave want and no error.
func same(t *testing.T, got any, err error, want any) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryMethodCrosses(t *testing.T) {
	t.Parallel()
	agent, addr := testAgent(2), netip.MustParseAddrPort("192.0.2.1:7480")
	ping := PingResult{Agent: agent, Time: 3 * time.Millisecond, Address: addr, Reused: true, Source: SourceCache}
	lookup := LookupResult{Agent: agent, Addresses: []netip.AddrPort{addr}, Source: SourceDHT, Seq: 4, Expires: testTime,
		Route: []RouteStep{{Agent: testAgent(3), Address: addr, Hop: 1, Answer: "record", Time: time.Millisecond}}}
	chains := []ChainInfo{{"auction", sdk.DNAHash{1}, "1", 5, sdk.Hash{2}}}
	query := sdk.Query{Type: "bid", From: 1, To: 9, Reverse: true, Limit: 3}
	withheld := testRecord(2, []byte("secret"))
	withheld.Content = nil
	records := []sdk.Record{testRecord(0, []byte{}), testRecord(1, []byte("x")), withheld}
	verify := VerifyResult{DNA: "auction", Hash: sdk.DNAHash{1}, Author: agent, Records: 3, Withheld: 1, Head: sdk.Hash{1}, Wrong: 3, Reason: "gap"}
	export := bytes.Repeat([]byte("0123456789"), 50_000)
	c, _ := start(t, &fakeNode{
		status: func(context.Context) (Status, error) { return fullStatus(), nil },
		call: func(_ context.Context, dna, function string, payload []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s.%s(%s)", dna, function, payload), nil
		},
		ping: func(_ context.Context, a sdk.AgentID) (PingResult, error) { ping.Agent = a; return ping, nil },
		lookup: func(_ context.Context, a sdk.AgentID) (LookupResult, error) {
			lookup.Agent = a
			return lookup, nil
		},
		chains: func(context.Context) ([]ChainInfo, error) { return chains, nil },
		chain: func(_ context.Context, dna string, q sdk.Query) ([]sdk.Record, error) {
			if dna != "auction" || q != query {
				return nil, fmt.Errorf("asked for %q, %+v", dna, q)
			}
			return records, nil
		},
		entry: func(_ context.Context, dna string, _ sdk.Hash) (sdk.Record, error) {
			if dna != "auction" {
				return sdk.Record{}, fmt.Errorf("asked for %q", dna)
			}
			return records[1], nil
		},
		verify: func(context.Context, string) (VerifyResult, error) { return verify, nil },
		export: func(_ context.Context, _ string, o ExportOptions, w io.Writer) error {
			_, err := fmt.Fprintf(w, "private %v ", o.Private)
			if err == nil {
				_, err = w.Write(export)
			}
			return err
		},
	})
	ctx := t.Context()
	st, err := c.Status(ctx)
	same(t, st, err, fullStatus())
	reply, err := c.Call(ctx, "auction", "bid", []byte("$50"))
	same(t, string(reply), err, "auction.bid($50)")
	p, err := c.Ping(ctx, agent)
	same(t, p, err, ping)
	l, err := c.Lookup(ctx, agent)
	same(t, l, err, lookup)
	cs, err := c.Chains(ctx)
	same(t, cs, err, chains)
	rs, err := c.Chain(ctx, "auction", query)
	same(t, rs, err, records)
	for i := range rs {
		if err := rs[i].Verify(); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	entry, err := c.GetEntry(ctx, "auction", records[1].Hash())
	same(t, entry, err, records[1])
	if r, err := c.GetEntry(ctx, "auction", sdk.Hash{9}); err == nil || !strings.Contains(err.Error(), "asked for was") {
		t.Errorf("an answer of another hash: %+v, %v", r.Header, err)
	}
	v, err := c.VerifyChain(ctx, "auction")
	same(t, v, err, verify)
	for _, private := range []bool{false, true} {
		var b bytes.Buffer
		want := fmt.Appendf(nil, "private %v %s", private, export)
		if err := c.ExportChain(ctx, "auction", ExportOptions{Private: private}, &b); err != nil || !bytes.Equal(b.Bytes(), want) {
			t.Errorf("private %v: the export has %d bytes, %d expected; %v", private, b.Len(), len(want), err)
		}
	}
}

func TestErrorsCrossUnchanged(t *testing.T) {
	t.Parallel()
	full := &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "no address answered",
		HandlerCode: "x.y", Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: 20, Max: 10, RetryAfter: time.Second},
		Attempts: []sdk.Attempt{{Address: "192.0.2.1:7777", Cause: "connection refused"}}}
	list := []*sdk.Error{full}
	for code := sdk.UnknownAgent; code.Valid(); code++ {
		list = append(list, &sdk.Error{Code: code, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredUnknown, Text: "ä"})
	}
	var next error
	c, _ := start(t, &fakeNode{
		call:   func(context.Context, string, string, []byte) ([]byte, error) { return nil, next },
		export: func(context.Context, string, ExportOptions, io.Writer) error { return next },
	})
	for _, want := range list {
		next = fmt.Errorf("wrapped: %w", want)
		_, err := c.Call(t.Context(), "d", "f", nil)
		var got *sdk.Error
		if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
			t.Errorf("call: got %#v, want %#v", err, want)
		}
		err = c.ExportChain(t.Context(), "d", ExportOptions{}, io.Discard)
		if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
			t.Errorf("export: got %#v, want %#v", err, want)
		}
	}
	next = &InputError{Text: "dna: unknown letter"}
	_, err := c.Call(t.Context(), "d", "f", nil)
	var input *InputError
	if !errors.As(err, &input) || input.Text != "dna: unknown letter" {
		t.Errorf("got %#v", err)
	}
	next = &sdk.Error{Code: 99, Side: sdk.SideNode, Text: "no such code"}
	if _, err := c.Call(t.Context(), "d", "f", nil); err == nil || errors.As(err, new(*sdk.Error)) {
		t.Errorf("an error outside the closed set crossed: %#v", err)
	}
}

func TestBadInputIsRefusedBeforeTheNode(t *testing.T) {
	t.Parallel()
	c, _ := start(t, &fakeNode{}, WithMaxPayload(100))
	long := string(bytes.Repeat([]byte("x"), 81))
	ask := map[string]func() error{
		"no dna":        func() error { _, err := c.Call(t.Context(), "", "f", nil); return err },
		"no function":   func() error { _, err := c.Call(t.Context(), "d", "", nil); return err },
		"long dna":      func() error { _, err := c.Call(t.Context(), long, "f", nil); return err },
		"control":       func() error { _, err := c.Call(t.Context(), "d\x1b[2J", "f", nil); return err },
		"limit":         func() error { _, err := c.Chain(t.Context(), "d", sdk.Query{Limit: 1001}); return err },
		"from after to": func() error { _, err := c.Chain(t.Context(), "d", sdk.Query{From: 2, To: 1}); return err },
		"get, no DNA":   func() error { _, err := c.GetEntry(t.Context(), "", sdk.Hash{}); return err },
		"export":        func() error { return c.ExportChain(t.Context(), "", ExportOptions{}, io.Discard) },
		"verify":        func() error { _, err := c.VerifyChain(t.Context(), "\n"); return err },
	}
	for name, f := range ask {
		var input *InputError
		if err := f(); !errors.As(err, &input) {
			t.Errorf("%s: got %#v, want an InputError", name, err)
		}
	}
}

func TestPayloadLimit(t *testing.T) {
	t.Parallel()
	const limit = 1000
	c, _ := start(t, &fakeNode{call: func(_ context.Context, _, _ string, p []byte) ([]byte, error) { return p, nil }}, WithMaxPayload(limit))
	if got, err := c.Call(t.Context(), "d", "f", make([]byte, limit)); err != nil || len(got) != limit {
		t.Fatalf("%d bytes: %d bytes came back, %v", limit, len(got), err)
	}
	for _, n := range []int{limit + 1, 2*limit + bodyOverhead + 1, 10 << 20} {
		_, err := c.Call(t.Context(), "d", "f", make([]byte, n))
		var e *sdk.Error
		if !errors.As(err, &e) || e.Code != sdk.TooLarge || e.Limit == nil || e.Limit.Setting != "max-payload" || e.Limit.Value < uint64(n) || e.Limit.Max != limit {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
}
