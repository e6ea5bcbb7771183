package handlerpb

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/sdk"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

func seq[T ~[16]byte | ~[32]byte | ~[64]byte](from byte) (v T) {
	for i := range len(v) {
		v[i] = from + byte(i)
	}
	return v
}

var fullError = &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "no answer",
	HandlerCode: "app.x", Limit: &sdk.Limit{Name: "calls", Setting: "max-calls", Value: 7, Max: 6, RetryAfter: 100 * time.Millisecond},
	Attempts: []sdk.Attempt{{Address: "192.0.2.1:4000", Cause: "connection refused"}}}

func testRecord() sdk.Record {
	return sdk.Record{Header: sdk.Header{Version: 1, DNA: seq[sdk.DNAHash](1), Author: seq[sdk.AgentID](2), Seq: 3, Prev: seq[sdk.Hash](4),
		Time: time.UnixMicro(1_700_000_000_000_005).UTC(), Kind: sdk.KindEntry, EntryType: "bid", Visibility: sdk.Public, Entry: seq[sdk.Hash](6),
		Cause: sdk.Cause{Kind: sdk.CallReceive, Message: seq[sdk.MessageID](7), From: seq[sdk.AgentID](8)}},
		Signature: seq[[64]byte](9), Content: []byte("content")}
}

var testClaim = sdk.Claim{Grantor: seq[sdk.AgentID](1), Grant: seq[sdk.Hash](2), Secret: seq[sdk.Secret](3), Functions: []string{"read"},
	Expires: time.UnixMicro(1_700_000_000_000_005).UTC()}

var (
	testTime  = time.UnixMicro(1_700_000_000_000_005).UTC()
	testGrant = sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{seq[sdk.AgentID](1)}, Functions: []string{"read", "list"}, Expires: testTime, Uses: 3,
		Rate: sdk.Rate{N: 10, Per: time.Minute}, MaxPayload: 1000}
)

// testDelegation has a proof whose link is signed.
func testDelegation() sdk.DelegationStatus {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	p, err := sdk.SignDelegation(&sdk.Delegation{To: seq[sdk.AgentID](1), Messages: true, Expires: testTime}, seq[sdk.DNAHash](2), key, seq[[16]byte](3), testTime.Add(-time.Hour))
	if err != nil {
		panic(err)
	}
	links, err := p.Links()
	if err != nil {
		panic(err)
	}
	return sdk.DelegationStatus{ID: links[0].ID(), Proof: p, Link: links[0], Since: testTime, Revoked: true}
}

// vector is a frame in both forms. node tells who sends it.
type vector struct {
	name, comment string
	node          bool
	value         any
}

func vectors() []vector {
	withheld := testRecord()
	withheld.Content = nil
	empty := testRecord()
	empty.Content = []byte{}
	return []vector{
		{"call-function", "a call of \"place_bid\" with 1.5 s left (rounded up to 1500 ms)", true, &FromNode{ID: 9, Start: &Start{Call: sdk.Call{Kind: sdk.CallFunction,
			Function: "place_bid", ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2), Payload: []byte("payload")}, Remaining: 1500 * time.Millisecond}}},
		{"call-receive", "a receive without a deadline", true, &FromNode{ID: 300, Start: &Start{Call: sdk.Call{Kind: sdk.CallReceive,
			ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2), Payload: []byte("payload")}}}},
		{"call-behalf", "a receive from one who acts on behalf of another", true, &FromNode{ID: 300, Start: &Start{Call: sdk.Call{Kind: sdk.CallReceive,
			ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2), Behalf: []byte("proof"), Payload: []byte("payload")}}}},
		{"call-notified", "a notification", true, &FromNode{ID: 300, Start: &Start{Call: sdk.Call{Kind: sdk.CallNotified,
			ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2), Payload: []byte("payload")}}}},
		{"call-init", "an init with 30 s left", true, &FromNode{ID: 1, Start: &Start{Call: sdk.Call{Kind: sdk.CallInit,
			ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2)}, Remaining: 30 * time.Second}}},
		{"call-validate", "is this record's entry valid?", true, &FromNode{ID: 9, Start: &Start{Call: sdk.Call{Kind: sdk.CallValidate,
			ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2), Records: []sdk.Record{testRecord()}}}}},
		{"call-post-commit", "two records are durable; the content of the second one exceeds the payload limit", true, &FromNode{ID: 9, Start: &Start{
			Call:      sdk.Call{Kind: sdk.CallPostCommit, ID: seq[sdk.MessageID](1), From: seq[sdk.AgentID](2), Records: []sdk.Record{testRecord(), withheld}},
			Remaining: time.Minute}}},
		{"result-invalid", "the end of a validate: the entry is not valid", false, &FromHandler{ID: 9, Result: &Result{Err: sdk.Fail(sdk.HandlerCodeValidate, "no")}}},
		{"call-cancel", "nobody waits for call 9 any more", true, &FromNode{ID: 9, Cancel: true}},
		{"answer-send", "the reply to callback 1", true, &FromNode{ID: 9, Answer: &Answer{ID: 1, Op: OpSend, Reply: []byte("reply")}}},
		{"answer-commit", "the entry's hash for callback 2", true, &FromNode{ID: 9, Answer: &Answer{ID: 2, Op: OpCommit, Hash: seq[sdk.Hash](3)}}},
		{"answer-query", "three records for callback 3: one with its entry, one withheld, one empty", true,
			&FromNode{ID: 9, Answer: &Answer{ID: 3, Op: OpQuery, Records: []sdk.Record{testRecord(), withheld, empty}}}},
		{"answer-get", "the record for callback 5", true, &FromNode{ID: 9, Answer: &Answer{ID: 5, Op: OpGet, Record: testRecord()}}},
		{"answer-get-empty", "a record whose entry is empty", true, &FromNode{ID: 9, Answer: &Answer{ID: 5, Op: OpGet, Record: empty}}},
		{"answer-notify", "callback 6: the first agent's notified took it, the second one has an error", true,
			&FromNode{ID: 9, Answer: &Answer{ID: 6, Op: OpNotify, Results: []error{nil, fullError}}}},
		{"answer-online", "callback 8: heard at that time", true, &FromNode{ID: 9, Answer: &Answer{ID: 8, Op: OpOnline,
			Presence: sdk.Presence{Online: true, LastHeard: time.UnixMicro(1_700_000_000_000_005).UTC()}}}},
		{"answer-grant", "callback 9: the claim of a transferable grant", true, &FromNode{ID: 9, Answer: &Answer{ID: 9, Op: OpGrant, Claim: testClaim}}},
		{"answer-delegate", "callback 12: the proof", true, &FromNode{ID: 9, Answer: &Answer{ID: 12, Op: OpDelegate, Proof: []byte("proof")}}},
		{"answer-list-grants", "callback 13: a page of grants, and where the next one begins", true, &FromNode{ID: 9, Answer: &Answer{ID: 13, Op: OpList, Page: sdk.Page{
			Grants: []sdk.GrantStatus{{ID: seq[sdk.Hash](1), Grant: testGrant, Since: testTime, Used: 2, Expired: true}}, Next: []byte("next")}}}},
		{"answer-list-claims", "callback 14: the last page of claims, without their secrets", true, &FromNode{ID: 9, Answer: &Answer{ID: 14, Op: OpList, Page: sdk.Page{
			Claims: []sdk.ClaimStatus{{Grantor: seq[sdk.AgentID](1), Grant: seq[sdk.Hash](2), Functions: []string{"read"}, Expires: testTime, Secret: true,
				Since: testTime, Told: true, Refused: "revoked"}}}}}},
		{"answer-list-delegations", "callback 15: a page of delegations", true, &FromNode{ID: 9, Answer: &Answer{ID: 15, Op: OpList, Page: sdk.Page{
			Delegations: []sdk.DelegationStatus{testDelegation()}}}}},
		{"answer-done", "callback 7, 10 or 11: it was done", true, &FromNode{ID: 9, Answer: &Answer{ID: 7, Op: OpDone}}},
		{"answer-error", "an error with every field for callback 4", true, &FromNode{ID: 9, Answer: &Answer{ID: 4, Err: fullError}}},
		{"result-reply", "the end of a call", false, &FromHandler{ID: 9, Result: &Result{Reply: []byte("reply")}}},
		{"result-error", "the end of a call with an error", false, &FromHandler{ID: 9, Result: &Result{Err: fullError}}},
		{"callback-send", "a send with 2 s of its own", false, &FromHandler{ID: 9, Callback: &Callback{ID: 1, Op: OpSend, Message: sdk.Message{To: seq[sdk.AgentID](1),
			Payload: []byte("payload")}, Remaining: 2 * time.Second}}},
		{"callback-call-remote", "a call of another agent's function on behalf of a third one, with a matching receipt", false, &FromHandler{ID: 9, Callback: &Callback{ID: 1, Op: OpSend,
			Message: sdk.Message{To: seq[sdk.AgentID](1), Function: "read", Behalf: []byte("proof"), Payload: []byte("payload"), Receipt: true}}}},
		{"callback-notify", "a notification to two agents, whose results are waited for", false, &FromHandler{ID: 9, Callback: &Callback{ID: 6, Op: OpNotify, Remaining: time.Second,
			Notice: sdk.Notice{To: []sdk.AgentID{seq[sdk.AgentID](1), seq[sdk.AgentID](2)}, Payload: []byte("payload"), Wait: true}}}},
		{"callback-notify-behalf", "a notification on behalf of another agent, for whose results nobody waits", false, &FromHandler{ID: 9, Callback: &Callback{ID: 6, Op: OpNotify,
			Notice: sdk.Notice{To: []sdk.AgentID{seq[sdk.AgentID](1)}, Payload: []byte("payload"), Behalf: []byte("proof")}}}},
		{"callback-notify-unanswered", "a notification to one agent that wants no answer (no cb)", false, &FromHandler{ID: 9, Callback: &Callback{Op: OpNotify,
			Notice: sdk.Notice{To: []sdk.AgentID{seq[sdk.AgentID](1)}, Payload: []byte("payload")}}}},
		{"callback-emit", "a signal to the agent's own clients", false, &FromHandler{ID: 9, Callback: &Callback{ID: 7, Op: OpEmit, Payload: []byte("payload")}}},
		{"callback-online", "can this agent be heard?", false, &FromHandler{ID: 9, Callback: &Callback{ID: 8, Op: OpOnline, Agent: seq[sdk.AgentID](1)}}},
		{"callback-grant", "an assigned grant with every bound", false, &FromHandler{ID: 9, Callback: &Callback{ID: 9, Op: OpGrant, Grant: testGrant}}},
		{"callback-revoke", "the end of a grant", false, &FromHandler{ID: 9, Callback: &Callback{ID: 10, Op: OpRevoke, Revoke: seq[sdk.Hash](1)}}},
		{"callback-claim", "a transferable grant that was passed on", false, &FromHandler{ID: 9, Callback: &Callback{ID: 11, Op: OpClaim, Claim: testClaim}}},
		{"callback-delegate", "a delegation with every bound, handed on", false, &FromHandler{ID: 9, Callback: &Callback{ID: 12, Op: OpDelegate, Delegate: sdk.Delegation{To: seq[sdk.AgentID](1),
			Functions: []string{"place_bid"}, Messages: true, Agents: []sdk.AgentID{seq[sdk.AgentID](2)}, NotBefore: time.UnixMicro(1_700_000_000_000_005).UTC(),
			Expires: time.UnixMicro(1_800_000_000_000_005).UTC(), Uses: 3, Rate: sdk.Rate{N: 10, Per: time.Minute}, MaxPayload: 1000, Depth: 1, Under: []byte("proof")}}}},
		{"callback-list", "the page of grants behind one that ended with this next", false, &FromHandler{ID: 9, Callback: &Callback{ID: 13, Op: OpList,
			List: sdk.List{Kind: sdk.ListGrants, After: []byte("next")}}}},
		{"callback-commit", "a public entry, strict ordering", false, &FromHandler{ID: 9, Callback: &Callback{ID: 2, Op: OpCommit,
			Entry: sdk.Entry{Type: "bid", Visibility: sdk.Public, Ordering: sdk.Strict, Content: []byte("content")}}}},
		{"callback-commit-unanswered", "a private entry that wants no answer (no cb)", false, &FromHandler{ID: 9, Callback: &Callback{Op: OpCommit,
			Entry: sdk.Entry{Type: "bid", Content: []byte("content")}}}},
		{"callback-query", "the last 10 bids below sequence 100", false, &FromHandler{ID: 9, Callback: &Callback{ID: 3, Op: OpQuery,
			Query: sdk.Query{Type: "bid", From: 1, To: 100, Reverse: true, Limit: 10}}}},
		{"callback-get", "the record of a hash, with 2 s of its own", false, &FromHandler{ID: 9, Callback: &Callback{ID: 5, Op: OpGet, Record: seq[sdk.Hash](1),
			Remaining: 2 * time.Second}}},
		{"cancel", "nobody waits for callback 5 any more", false, &FromHandler{ID: 9, Cancel: 5}},
		{"log", "a warning with one attribute", false, &FromHandler{ID: 9, Log: &LogRecord{Level: slog.LevelWarn, Text: "careful",
			Attrs: []LogAttr{{Key: "n", Value: "7"}}}}},
	}
}

// encode is what the streams do.
func encode(v any) ([]byte, error) {
	var head, tail []byte
	var err error
	switch f := v.(type) {
	case *FromNode:
		switch {
		case f.Start != nil:
			head, tail, err = startHead(nil, f.ID, &f.Start.Call, f.Start.Remaining)
		case f.Answer != nil:
			head, tail, err = answerHead(nil, f.ID, f.Answer)
		default:
			head = callCancel(nil, f.ID)
		}
	case *FromHandler:
		switch {
		case f.Result != nil:
			head, tail, err = resultHead(nil, f.ID, f.Result)
		case f.Callback != nil:
			head, tail, err = callbackHead(nil, f.ID, f.Callback)
		case f.Log != nil:
			head, tail, err = generic(nil, f.ID, handlerLog, logToWire(f.Log))
		default:
			head = callbackCancel(nil, f.ID, f.Cancel)
		}
	}
	return append(head, tail...), err
}

func decode(node bool, b []byte) (any, error) {
	if node {
		f, err := parseFromNode(b)
		return &f, err
	}
	f, err := parseFromHandler(b)
	return &f, err
}

// message gives a frame's generated type.
func message(node bool) proto.Message {
	if node {
		return &HostMessage{}
	}
	return &HandlerMessage{}
}

var marshal = proto.MarshalOptions{Deterministic: true}

// The golden vectors are for handlers in other languages, and hold the format.
func TestVectors(t *testing.T) {
	for _, v := range vectors() {
		b, err := encode(v.value)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		w := message(v.node)
		if err := proto.Unmarshal(b, w); err != nil || len(w.ProtoReflect().GetUnknown()) != 0 {
			t.Fatalf("%s: not what handler.proto says: %v, %v", v.name, w, err)
		}
		others, err := marshal.Marshal(w) // as another language writes it
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(v.node, others); err != nil || !reflect.DeepEqual(got, v.value) {
			t.Errorf("%s: decoded as %+v, %v", v.name, got, err)
		}
		message := map[bool]string{true: "HostMessage", false: "HandlerMessage"}[v.node]
		file := filepath.Join("testdata", v.name+".hex")
		text := fmt.Sprintf("# parley.handler.v1.%s: %s\n%s\n", message, v.comment, wrap(hex.EncodeToString(b)))
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || string(want) != text {
			t.Errorf("%s: encoded as\n%s\nwant\n%s\n%v", v.name, text, want, err)
		}
		got, err := decode(v.node, b)
		if err != nil || !reflect.DeepEqual(got, v.value) {
			t.Errorf("%s: decoded as %+v, %v", v.name, got, err)
		}
	}
}

func wrap(s string) string {
	var lines []string
	for len(s) > 64 {
		lines, s = append(lines, s[:64]), s[64:]
	}
	return strings.Join(append(lines, s), "\n")
}

func TestDescriptionAndSetup(t *testing.T) {
	t.Parallel()
	d := sdk.Description{Name: "auction-1_x", Integrity: "2", Functions: []string{"a", "b"}, Receives: true, Init: true, PostCommit: true, SDK: "go v1", Protocol: Protocol}
	w, err := descriptionToWire(d)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := descriptionFromWire(w); err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("%+v, %v", got, err)
	}
	unsorted := d
	unsorted.Functions = []string{"b", "a"}
	if w, err := descriptionToWire(unsorted); err != nil || w.Functions[0] != "a" || unsorted.Functions[0] != "b" {
		t.Errorf("unsorted: %v, %v", w, err)
	}
	s := sdk.Setup{Agent: seq[sdk.AgentID](1), DNA: seq[sdk.DNAHash](2), Properties: []byte("{}"),
		Commits: sdk.CommitLimits{Entries: 7, Entry: 8, Bytes: math.MaxInt32}}
	sw, err := setupToWire(&s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := setupFromWire(sw); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(*sdk.Description){
		"no name":    func(d *sdk.Description) { d.Name = "" },
		"long name":  func(d *sdk.Description) { d.Name = strings.Repeat("a", 65) },
		"upper case": func(d *sdk.Description) { d.Name = "Auction" },
		"slash":      func(d *sdk.Description) { d.Name = "../x" },
		"integrity":  func(d *sdk.Description) { d.Integrity = strings.Repeat("1", 65) },
		"sdk":        func(d *sdk.Description) { d.SDK = strings.Repeat("1", 129) },
		"protocol":   func(d *sdk.Description) { d.Protocol = 2 },
		"twice":      func(d *sdk.Description) { d.Functions = []string{"a", "a"} },
		"empty":      func(d *sdk.Description) { d.Functions = []string{""} },
		"not UTF-8":  func(d *sdk.Description) { d.Functions = []string{"\xff"} },
		"many":       func(d *sdk.Description) { d.Functions = make([]string, maxFunctions+1) },
		"need":       func(d *sdk.Description) { d.Needs = []string{"read:etc"} },
		"needs":      func(d *sdk.Description) { d.Needs = slices.Repeat([]string{"network"}, sdk.MaxNeeds+1) },
	} {
		bad := d
		change(&bad)
		if _, err := descriptionToWire(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: sent, %v", name, err)
		}
		w := &DescribeResponse{Name: bad.Name, Integrity: bad.Integrity, Functions: bad.Functions, Sdk: bad.SDK, Protocol: uint32(bad.Protocol), Needs: bad.Needs}
		if _, err := descriptionFromWire(w); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: received, %v", name, err)
		}
	}
	for _, w := range []*SetupRequest{{}, {Agent: sw.Agent}, {Agent: sw.Agent, Dna: sw.Dna[1:]}, {Agent: sw.Agent, Dna: sw.Dna, Properties: make([]byte, maxProperties+1)},
		{Agent: sw.Agent, Dna: sw.Dna, Commits: &CommitLimits{Entries: 1 << 31}}, {Agent: sw.Agent, Dna: sw.Dna, Commits: &CommitLimits{Bytes: 1<<32 - 1}}} {
		if _, err := setupFromWire(w); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v", w, err)
		}
	}
	if got, err := setupFromWire(&SetupRequest{Agent: sw.Agent, Dna: sw.Dna}); err != nil || got.Commits != (sdk.CommitLimits{}) {
		t.Errorf("no limits told: %+v, %v", got, err)
	}
	for _, l := range []sdk.CommitLimits{{Entries: -1}, {Bytes: -1}} {
		if _, err := setupToWire(&sdk.Setup{Commits: l}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// What is out of bounds is refused, whichever side sends it.
func TestMalformed(t *testing.T) {
	t.Parallel()
	id, agent := make([]byte, 16), make([]byte, 32)
	start := func(change func(*CallStart)) *HostMessage {
		c := &CallStart{Kind: CallKind_CALL_KIND_FUNCTION, Function: "f", Id: id, From: agent}
		change(c)
		return &HostMessage{Message: &HostMessage_Start{Start: c}}
	}
	records := func(n int) *Records { // without contents
		r := testRecord()
		r.Content = nil
		w, err := recordsToWire(slices.Repeat([]sdk.Record{r}, n))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	private, err := recordToWire(&sdk.Record{Header: sdk.Header{Version: 1, Kind: sdk.KindEntry, EntryType: "bid", Cause: sdk.Cause{Kind: sdk.CallFunction}}, Content: id})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(r *CallbackResult) *HostMessage { return &HostMessage{Message: &HostMessage_Result{Result: r}} }
	for name, w := range map[string]*HostMessage{
		"nothing":           {},
		"no call":           start(func(*CallStart) {}),
		"not cancelled":     {Message: &HostMessage_Cancel{}},
		"empty call":        {Message: &HostMessage_Start{}},
		"kind":              start(func(c *CallStart) { c.Kind = 6 }),
		"kind 257":          start(func(c *CallStart) { c.Kind = 257 }),
		"no function":       start(func(c *CallStart) { c.Function = "" }),
		"long function":     start(func(c *CallStart) { c.Function = strings.Repeat("f", 65) }),
		"receive function":  start(func(c *CallStart) { c.Kind = CallKind_CALL_KIND_RECEIVE }),
		"init's function":   start(func(c *CallStart) { c.Kind = CallKind_CALL_KIND_INIT }),
		"init's payload":    start(func(c *CallStart) { *c = CallStart{Kind: CallKind_CALL_KIND_INIT, Id: id, From: agent, Payload: id} }),
		"function's record": start(func(c *CallStart) { c.Records = records(1) }),
		"no record":         start(func(c *CallStart) { *c = CallStart{Kind: CallKind_CALL_KIND_VALIDATE, Id: id, From: agent} }),
		"two records": start(func(c *CallStart) {
			*c = CallStart{Kind: CallKind_CALL_KIND_VALIDATE, Id: id, From: agent, Records: records(2)}
		}),
		"withheld": start(func(c *CallStart) {
			*c = CallStart{Kind: CallKind_CALL_KIND_VALIDATE, Id: id, From: agent, Records: records(1)}
		}),
		"nothing durable": start(func(c *CallStart) {
			*c = CallStart{Kind: CallKind_CALL_KIND_POST_COMMIT, Id: id, From: agent, Records: &Records{}}
		}),
		"129 durable": start(func(c *CallStart) {
			*c = CallStart{Kind: CallKind_CALL_KIND_POST_COMMIT, Id: id, From: agent, Records: records(129)}
		}),
		"bad record": start(func(c *CallStart) {
			*c = CallStart{Kind: CallKind_CALL_KIND_POST_COMMIT, Id: id, From: agent, Records: &Records{Records: []*Record{{}}}}
		}),
		"id":             start(func(c *CallStart) { c.Id = id[1:] }),
		"from":           start(func(c *CallStart) { c.From = nil }),
		"remaining":      start(func(c *CallStart) { c.RemainingMs = maxRemainingMS + 1 }),
		"empty answer":   answer(nil),
		"cb 0":           answer(&CallbackResult{Outcome: &CallbackResult_Reply{}}),
		"no outcome":     answer(&CallbackResult{Cb: 1}),
		"hash":           answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Hash{Hash: id}}),
		"header":         answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Records{Records: &Records{Records: []*Record{{}}}}}),
		"nil record":     answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Records{Records: &Records{Records: []*Record{nil}}}}),
		"many records":   answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Records{Records: &Records{Records: make([]*Record, 1001)}}}),
		"found nothing":  answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Record{}}),
		"found withheld": answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Record{Record: records(1).Records[0]}}),
		"found private":  answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Record{Record: private}}),
		"nil error":      answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Error{}}),
		"long list":      answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Listing{Listing: &Listing{Claims: make([]*ClaimStatus, 257)}}}),
		"long next":      answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Listing{Listing: &Listing{Next: make([]byte, 129)}}}),
		"empty grant":    answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Listing{Listing: &Listing{Grants: []*GrantStatus{{Id: agent}}}}}),
		"no proof":       answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Listing{Listing: &Listing{Delegations: []*DelegationStatus{{}}}}}),
		"told secret": answer(&CallbackResult{Cb: 1, Outcome: &CallbackResult_Listing{Listing: &Listing{Claims: []*ClaimStatus{{
			Claim: &Claim{Grantor: agent, Grant: agent, Secret: bytes.Repeat([]byte{1}, 32)}}}}}}),
	} {
		if w.Call = 1; name == "no call" {
			w.Call = 0
		}
		b, err := proto.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := parseFromNode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("node, %s: %+v, %v", name, f, err)
		}
	}
	cb := func(c *CallbackRequest) *HandlerMessage {
		return &HandlerMessage{Message: &HandlerMessage_Callback{Callback: c}}
	}
	entry := func(e *Entry) *HandlerMessage {
		return cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Commit{Commit: e}})
	}
	failed := func(e *Error) *HandlerMessage {
		return &HandlerMessage{Message: &HandlerMessage_Result{Result: &CallResult{Error: e}}}
	}
	for name, w := range map[string]*HandlerMessage{
		"nothing":     {},
		"cb 0":        cb(&CallbackRequest{Op: &CallbackRequest_Query{Query: &Query{}}}),
		"nil":         cb(nil),
		"send, cb 0":  cb(&CallbackRequest{Op: &CallbackRequest_Send{Send: &Send{To: agent}}}),
		"no op":       cb(&CallbackRequest{Cb: 1}),
		"neither":     cb(&CallbackRequest{}),
		"nothing, 0":  cb(&CallbackRequest{Op: &CallbackRequest_Commit{}}),
		"no type, 0":  cb(&CallbackRequest{Op: &CallbackRequest_Commit{Commit: &Entry{Content: id}}}),
		"to":          cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Send{Send: &Send{To: id}}}),
		"get's hash":  cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Get{Get: &Get{Record: id}}}),
		"get's time":  cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Get{Get: &Get{Record: agent, RemainingMs: maxRemainingMS + 1}}}),
		"nil get":     cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Get{}}),
		"get, cb 0":   cb(&CallbackRequest{Op: &CallbackRequest_Get{Get: &Get{Record: agent}}}),
		"nil send":    cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Send{}}),
		"nil commit":  cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Commit{}}),
		"entry type":  entry(&Entry{}),
		"long type":   entry(&Entry{Type: strings.Repeat("t", 65)}),
		"visibility":  entry(&Entry{Type: "t", Visibility: 2}),
		"visibility-": entry(&Entry{Type: "t", Visibility: -1}),
		"ordering":    entry(&Entry{Type: "t", Ordering: 256}),
		"limit":       cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Query{Query: &Query{Limit: 1001}}}),
		"proof, cb 0": cb(&CallbackRequest{Op: &CallbackRequest_Notify{Notify: &Notify{To: [][]byte{agent}, Behalf: id}}}),
		"long proof":  cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_Notify{Notify: &Notify{To: [][]byte{agent}, Behalf: make([]byte, sdk.MaxProof+1)}}}),
		"list of 0":   cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_List{List: &List{}}}),
		"list of 4":   cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_List{List: &List{Kind: 4}}}),
		"list of 257": cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_List{List: &List{Kind: 257}}}),
		"long after":  cb(&CallbackRequest{Cb: 1, Op: &CallbackRequest_List{List: &List{Kind: 1, After: make([]byte, 129)}}}),
		"list, cb 0":  cb(&CallbackRequest{Op: &CallbackRequest_List{List: &List{Kind: 1}}}),
		"cancel 0":    {Message: &HandlerMessage_Cancel{}},
		"long log":    {Message: &HandlerMessage_Log{Log: &LogLine{Text: strings.Repeat("t", maxText+1)}}},
		"log attrs":   {Message: &HandlerMessage_Log{Log: &LogLine{Attrs: make([]*Attr, maxAttrs+1)}}},
		"code 0":      failed(&Error{Side: 1}),
		"code 13":     failed(&Error{Code: 13, Side: 1}),
		"code 257":    failed(&Error{Code: 257, Side: 1}),
		"side 0":      failed(&Error{Code: 1}),
		"delivered":   failed(&Error{Code: 1, Side: 1, Delivered: 3}),
		"text":        failed(&Error{Code: 1, Side: 1, Text: strings.Repeat("t", maxText+1)}),
		"retry after": failed(&Error{Code: 1, Side: 1, Limit: &Limit{RetryAfterNs: -1}}),
		"attempts":    failed(&Error{Code: 1, Side: 1, Attempts: make([]*Attempt, 17)}),
		"both": {Message: &HandlerMessage_Result{Result: &CallResult{Reply: id,
			Error: &Error{Code: 1, Side: 1}}}},
	} {
		w.Call = 1
		b, err := proto.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := parseFromHandler(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("handler, %s: %+v, %v", name, f, err)
		}
	}
	for _, c := range []Callback{{ID: 1, Op: OpCommit, Entry: sdk.Entry{Type: "\xff"}}, {Op: OpCommit}, {Op: OpSend}, {Op: OpQuery}, {Op: OpGet}, {ID: 1}} {
		if _, _, err := callbackHead(nil, 1, &c); !errors.Is(err, ErrMalformed) {
			t.Errorf("callback %+v: %v", c, err)
		}
	}
	if _, _, err := startHead(nil, 1, &sdk.Call{Kind: sdk.CallFunction, Function: "\xff"}, 0); !errors.Is(err, ErrMalformed) {
		t.Errorf("a function that is not UTF-8: %v", err)
	}
}

// An error always crosses: what does not fit is cut.
func TestErrorCuts(t *testing.T) {
	t.Parallel()
	e := &sdk.Error{Code: 99, Side: 99, Delivered: 99, Text: strings.Repeat("ü", maxText) + "\xff", HandlerCode: strings.Repeat("c", 1000),
		Limit: &sdk.Limit{Name: strings.Repeat("n", 1000), RetryAfter: -1}}
	for range 40 {
		e.Attempts = append(e.Attempts, sdk.Attempt{Address: strings.Repeat("a", 1000), Cause: strings.Repeat("c", 2000)})
	}
	b, err := proto.Marshal(&CallResult{Error: errorToWire(e)})
	if err != nil {
		t.Fatal(err)
	}
	var w CallResult
	if err := proto.Unmarshal(b, &w); err != nil {
		t.Fatal(err)
	}
	r, err := resultFromWire(&w)
	if err != nil || r.Err.Code != sdk.HandlerFailed || !r.Err.Side.Valid() || len(r.Err.Attempts) != sdk.MaxAttempts {
		t.Errorf("%+v, %v", r.Err, err)
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d  time.Duration
		ms uint64
	}{{0, 0}, {-1, 0}, {1, 1}, {time.Millisecond, 1}, {time.Millisecond + 1, 2}, {time.Minute, 60_000}} {
		if ms := remainingToWire(c.d); ms != c.ms {
			t.Errorf("%s is %d ms, want %d", c.d, ms, c.ms)
		}
	}
	if d, err := remainingFromWire(maxRemainingMS); err != nil || d <= 0 {
		t.Errorf("the longest: %s, %v", d, err)
	}
}

// fuzz: what is accepted is within bounds, so it can be sent on, and means the
// same when it arrives again, and to the generated code.
func fuzz(f *testing.F, node bool) {
	for _, v := range vectors() {
		if v.node == node {
			b, err := encode(v.value)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decode(node, b)
		if err != nil {
			return
		}
		again, err := encode(v)
		if err != nil {
			t.Fatalf("%+v was accepted and can't be sent: %v", v, err)
		}
		v2, err := decode(node, again)
		if err != nil {
			t.Fatalf("%+v: %v", v, err)
		}
		if third, err := encode(v2); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x became %x, %v", again, third, err)
		}
		w := message(node)
		if err := proto.Unmarshal(again, w); err != nil {
			t.Fatalf("the generated code does not take %x: %v", again, err)
		}
		others, err := marshal.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		v3, err := decode(node, others)
		if err != nil {
			t.Fatal(err)
		}
		if fourth, err := encode(v3); err != nil || !bytes.Equal(again, fourth) {
			t.Fatalf("%x became %x, %v", again, fourth, err)
		}
	})
}

func FuzzFromNode(f *testing.F)    { fuzz(f, true) }
func FuzzFromHandler(f *testing.F) { fuzz(f, false) }
