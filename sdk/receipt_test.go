package sdk

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func testReceipt() (Message, ReceiptRequest, Receipt) {
	m := Message{To: testAgent("bob"), Function: "bid", Payload: []byte("12"), Behalf: seal(chain3(), nil)}
	r := SignReceiptRequest(testKey("alice"), testDNA, MessageID{7}, &m, testNow)
	return m, r, r.Answer(testKey("bob"), []byte("taken"))
}

func TestReceiptVectors(t *testing.T) {
	t.Parallel()
	_, request, receipt := testReceipt()
	behalf := BehalfEntry{testNow, "bid", seal(chain3(), nil)}
	revocation := Revocation{Hash{9}, testNow}
	got := map[string][]byte{
		"request": AppendReceiptRequest(nil, &request), "receipt": AppendReceipt(nil, &receipt),
		"revocation": AppendRevocation(nil, &revocation), "behalf": AppendBehalf(nil, &behalf),
	}
	for _, v := range readVectors(t, "receipts.txt") {
		if !bytes.Equal(got[v.left], unhex(t, v.right)) {
			t.Errorf("%s = %x", v.left, got[v.left])
		}
		delete(got, v.left)
	}
	for name, b := range got {
		t.Errorf("no vector %s = %x", name, b)
	}
	if r, err := ParseReceipt(AppendReceipt(nil, &receipt)); err != nil || r != receipt {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := ParseRevocation(AppendRevocation(nil, &revocation)); err != nil || r != revocation {
		t.Errorf("%+v, %v", r, err)
	}
	if e, err := ParseBehalf(AppendBehalf(nil, &behalf)); err != nil || !e.Time.Equal(behalf.Time) || e.Function != "bid" || !bytes.Equal(e.Proof, behalf.Proof) {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestReceipt: each field and each bit of a receipt is bound by a signature, and
// each is held against the message.
func TestReceipt(t *testing.T) {
	t.Parallel()
	m, request, receipt := testReceipt()
	if err := request.CheckMessage(testDNA, MessageID{7}, testAgent("alice"), &m); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Message, *DNAHash, *MessageID, *AgentID){
		"DNA":      func(_ *Message, d *DNAHash, _ *MessageID, _ *AgentID) { d[0]++ },
		"message":  func(_ *Message, _ *DNAHash, id *MessageID, _ *AgentID) { id[0]++ },
		"sender":   func(_ *Message, _ *DNAHash, _ *MessageID, a *AgentID) { *a = testAgent("mallory") },
		"receiver": func(m *Message, _ *DNAHash, _ *MessageID, _ *AgentID) { m.To = testAgent("mallory") },
		"function": func(m *Message, _ *DNAHash, _ *MessageID, _ *AgentID) { m.Function = "" },
		"payload":  func(m *Message, _ *DNAHash, _ *MessageID, _ *AgentID) { m.Payload = []byte("13") },
		"proof":    func(m *Message, _ *DNAHash, _ *MessageID, _ *AgentID) { m.Behalf = nil },
	} {
		m, dna, id, from := m, testDNA, MessageID{7}, testAgent("alice")
		change(&m, &dna, &id, &from)
		if err := request.CheckMessage(dna, id, from, &m); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := receipt.Verify(); err != nil {
		t.Fatal(err)
	}
	whole := AppendReceipt(nil, &receipt)
	for i := range whole {
		whole[i] ^= 1
		if r, err := ParseReceipt(whole); err == nil && r.Verify() == nil {
			t.Errorf("byte %d is bound by nothing", i)
		}
		whole[i] ^= 1
	}
	answer := append(receipt.ReplySignature[:], "taken"...)
	got, reply, err := request.Accept(answer)
	if err != nil || got != receipt || string(reply) != "taken" {
		t.Errorf("%q, %v", reply, err)
	}
	for _, bad := range [][]byte{nil, answer[:63], answer[1:], append(bytes.Clone(answer), '!')} {
		if _, _, err := request.Accept(bad); err == nil {
			t.Errorf("an answer of %d bytes is accepted", len(bad))
		}
	}
}

func TestCheckOwn(t *testing.T) {
	t.Parallel()
	_, _, receipt := testReceipt()
	behalf := AppendBehalf(nil, &BehalfEntry{testNow, "bid", seal(chain3(), nil)})
	byErin := Header{DNA: testDNA, Author: testAgent("erin"), EntryType: TypeBehalf, Cause: Cause{Kind: CallFunction, From: testAgent("dave")}}
	byAlice := Header{DNA: testDNA, Author: testAgent("alice"), EntryType: TypeReceipt}
	for name, c := range map[string]struct {
		h       Header
		change  func(*Header)
		content []byte
		good    bool
	}{
		"behalf":                  {byErin, func(*Header) {}, behalf, true},
		"receipt":                 {byAlice, func(*Header) {}, AppendReceipt(nil, &receipt), true},
		"receipt of the receiver": {byAlice, func(h *Header) { h.Author = testAgent("bob") }, AppendReceipt(nil, &receipt), true},
		"other":                   {Header{EntryType: "note"}, func(*Header) {}, nil, true},
		"another presenter":       {byErin, func(h *Header) { h.Cause.From = testAgent("carol") }, behalf, false},
		"another agent's chain":   {byErin, func(h *Header) { h.Author = testAgent("frank") }, behalf, false},
		"another DNA":             {byErin, func(h *Header) { h.DNA = DNAHash{} }, behalf, false},
		"another kind of cause":   {byErin, func(h *Header) { h.Cause.Kind = CallReceive }, behalf, false},
		"no proof":                {byErin, func(*Header) {}, behalf[:13], false},
		"receipt of others":       {byAlice, func(h *Header) { h.Author = testAgent("dave") }, AppendReceipt(nil, &receipt), false},
		"receipt, other DNA":      {byAlice, func(h *Header) { h.DNA = DNAHash{} }, AppendReceipt(nil, &receipt), false},
	} {
		c.change(&c.h)
		if err := CheckOwn(&c.h, c.content); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	late, _ := ParseBehalf(behalf)
	late.Time = testNow.Add(10 * time.Hour)
	if err := CheckOwn(&byErin, AppendBehalf(nil, &late)); err == nil {
		t.Error("a proof that had expired")
	}
}

func FuzzReceipt(f *testing.F) {
	_, request, receipt := testReceipt()
	f.Add(AppendReceiptRequest(nil, &request))
	f.Add(AppendReceipt(nil, &receipt))
	f.Add(AppendRevocation(nil, &Revocation{Hash{9}, testNow}))
	f.Add(AppendBehalf(nil, &BehalfEntry{testNow, "bid", seal(chain3(), nil)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseReceiptRequest(b); err == nil && !bytes.Equal(AppendReceiptRequest(nil, &r), b) {
			t.Error("not the one encoding of a request")
		}
		if r, err := ParseReceipt(b); err == nil && !bytes.Equal(AppendReceipt(nil, &r), b) {
			t.Error("not the one encoding of a receipt")
		}
		if r, err := ParseRevocation(b); err == nil && !bytes.Equal(AppendRevocation(nil, &r), b) {
			t.Error("not the one encoding of a revocation")
		}
		if e, err := ParseBehalf(b); err == nil && !bytes.Equal(AppendBehalf(nil, &e), b) {
			t.Error("not the one encoding of a behalf")
		}
	})
}
