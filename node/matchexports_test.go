package node

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func exported(t *testing.T, n *testNode, o control.ExportOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := n.ExportChain(t.Context(), "test", o, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestMatchExports: from two files alone, what both agents have signed stands on
// both chains, what one of them leaves out is seen, and other agents' exchanges are
// left aside.
func TestMatchExports(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob, carol := w.start("alice"), w.start("bob"), w.start("carol")
	send := func(from, to *testNode, text string) {
		t.Helper()
		if _, err := call[testMessage](t, from, "send", testSend{To: to.Agent(), Receipt: true, Message: testMessage{Do: "commit", Text: text}}); err != nil {
			t.Fatal(err)
		}
	}
	with := control.ExportOptions{Receipts: true}
	send(alice, bob, "one")
	before := exported(t, bob, with)
	send(bob, alice, "two")
	send(alice, carol, "three")
	if _, err := sendTo(t, alice, bob, testMessage{Do: "commit", Text: "without"}); err != nil {
		t.Fatal(err)
	}
	// As of a sender that died before it could append what the receiver has signed.
	lost := &liveCall{node: alice.Node, app: alice.apps.all()[0], call: &sdk.Call{Kind: sdk.CallFunction, From: alice.Agent(), ID: newMessageID()}}
	lost.end()
	payload, err := sdk.Marshal(testMessage{Do: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	if _, r, e := alice.send(context.Background(), lost.app, &sdk.Message{To: bob.Agent(), Payload: payload, Receipt: true}, lost.cause()); e != nil || r == nil {
		t.Fatal(e)
	}
	a, b := exported(t, alice, with), exported(t, bob, with)
	bare := control.ExportOptions{}
	cut := bytes.Clone(b)
	cut[len(cut)/2] ^= 1
	for _, c := range []struct {
		name       string
		a, b       []byte
		want       [6]int // matched, only a, only b, wrong, others, withheld
		whole, bad bool
	}{
		{"both", a, b, [6]int{2, 0, 1, 0, 1, 0}, false, false},
		{"the other way round", b, a, [6]int{2, 1, 0, 0, 1, 0}, false, false},
		{"an older one", a, before, [6]int{1, 1, 0, 0, 1, 0}, false, false},
		{"receipts in one of them only", a, exported(t, bob, bare), [6]int{2, 0, 0, 0, 1, 1}, false, false},
		{"receipts in none", exported(t, alice, bare), exported(t, bob, bare), [6]int{0, 0, 0, 0, 0, 4}, false, false},
		{"private ones", exported(t, alice, control.ExportOptions{Private: true}), b, [6]int{2, 0, 1, 0, 1, 0}, false, false},
		{"with a third agent", exported(t, carol, with), a, [6]int{1, 0, 0, 0, 2, 0}, true, false},
		{"of the same agent", a, a, [6]int{}, false, true},
		{"damaged", a, cut, [6]int{}, false, true},
	} {
		m, err := MatchExports(bytes.NewReader(c.a), bytes.NewReader(c.b))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := [6]int{m.Matched, m.OnlyA, m.OnlyB, m.Wrong, m.Others, m.Withheld}; got != c.want || m.Whole() != c.whole || len(m.Exchanges) != m.Matched+m.OnlyA+m.OnlyB+m.Wrong {
			t.Errorf("%s: got %v, want %v; whole: %t; %s", c.name, got, c.want, m.Whole(), m.Reason)
		}
		if bad := m.Reason != "" || !m.A.Valid || !m.B.Valid; bad != c.bad {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
	if _, err := chain.VerifyExportWith(bytes.NewReader(a), func(*sdk.Record) error { return errStopped }); !errors.Is(err, errStopped) {
		t.Errorf("a visit's error is lost: %v", err)
	}
}

var errStopped = errors.New("stopped")

// TestMatchReceiptsThatDiffer: two answers to one message, both signed.
func TestMatchReceiptsThatDiffer(t *testing.T) {
	t.Parallel()
	r := func(seq uint64, reply byte) receiptRecord {
		return receiptRecord{seq, sdk.Hash{reply}, &sdk.Receipt{Request: sdk.ReceiptRequest{From: sdk.AgentID{1}, To: sdk.AgentID{2}, Message: sdk.MessageID{9}}, Reply: sdk.Hash{reply}}}
	}
	m := control.MatchResult{A: control.VerifyResult{Author: sdk.AgentID{1}}, B: control.VerifyResult{Author: sdk.AgentID{2}}}
	matchReceipts(&m, []receiptRecord{r(3, 1)}, []receiptRecord{r(4, 2)})
	if m.Wrong != 1 || len(m.Exchanges) != 1 || m.Exchanges[0].SeqA != 3 || m.Exchanges[0].SeqB != 4 {
		t.Errorf("%+v", m)
	}
}

// TestMatchReceiptsTwice: who appends a receipt again has had no second exchange.
func TestMatchReceiptsTwice(t *testing.T) {
	t.Parallel()
	r := func(seq uint64, message byte) receiptRecord {
		return receiptRecord{seq, sdk.Hash{message}, &sdk.Receipt{Request: sdk.ReceiptRequest{From: sdk.AgentID{1}, To: sdk.AgentID{2}, Message: sdk.MessageID{message}}}}
	}
	m := control.MatchResult{A: control.VerifyResult{Author: sdk.AgentID{1}}, B: control.VerifyResult{Author: sdk.AgentID{2}}}
	matchReceipts(&m, []receiptRecord{r(3, 1), r(4, 1), r(5, 2), r(6, 2)}, []receiptRecord{r(4, 1), r(5, 1), r(6, 3), r(7, 3)})
	other := r(8, 1) // another answer to a message that stands on both
	other.entry = sdk.Hash{9}
	n := control.MatchResult{A: m.A, B: m.B}
	if matchReceipts(&n, []receiptRecord{other, r(3, 1)}, []receiptRecord{r(4, 1)}); n.Matched != 1 || n.Wrong != 1 {
		t.Errorf("%+v", n)
	}
	if m.Matched != 1 || m.OnlyA != 1 || m.OnlyB != 1 || len(m.Exchanges) != 3 {
		t.Errorf("%+v", m)
	}
}
