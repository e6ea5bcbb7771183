package node

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// receipts are those on a chain; their signatures hold.
func receipts(t *testing.T, n interface {
	Chain(ctx context.Context, dna string, q sdk.Query) ([]sdk.Record, error)
}) (out []sdk.Receipt) {
	t.Helper()
	rs, err := n.Chain(t.Context(), "test", sdk.Query{Type: sdk.TypeReceipt, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if err := sdk.CheckOwn(&r.Header, r.Content); err != nil {
			t.Errorf("record %d: %v", r.Header.Seq, err)
		}
		receipt, err := sdk.ParseReceipt(r.Content)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, receipt)
	}
	return out
}

// The receiver dies after the receipt is durable and before its answer is there:
// the sender gets that one answer and that one receipt from the node that comes
// back.
func TestReceiptAfterTheReceiverWasKilled(t *testing.T) {
	t.Parallel()
	alice, bob, p := behindProxy(t)
	send := func(text string) (testMessage, error) {
		return call[testMessage](t, alice, "send", testSend{To: bob.peer.Agent, Receipt: true, Message: testMessage{Do: "commit and tell the process", Text: text}})
	}
	first, err := send("before")
	if err != nil {
		t.Fatal(err)
	}
	p.setMute(true)
	type answer struct {
		reply testMessage
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		reply, err := send("once")
		done <- answer{reply, err}
	}()
	await(t, func() bool { return len(bob.notes()) == 2 })
	if got := receipts(t, alice); len(got) != 1 {
		t.Errorf("%d receipts before the answer", len(got))
	}
	bob.kill()
	p.setMute(false)
	bob.start("-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	a := <-done
	if a.err != nil || a.reply.Text != first.Text {
		t.Fatalf("%+v, %v", a.reply, a.err)
	}
	if ours, theirs := receipts(t, alice), receipts(t, bob.control); len(ours) != 2 || !slices.Equal(ours, theirs) {
		t.Errorf("%d receipts of the sender, %d of the receiver, or others", len(ours), len(theirs))
	}
	if got := bob.notes(); !slices.Equal(got, []string{"before", "once"}) {
		t.Errorf("the chain holds %q", got)
	}
}

// The answer is lost with its session: sent again, the message gives the first
// outcome and its receipt, once.
func TestReceiptWhenTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	p.setMute(true)
	done := make(chan error, 1)
	go func() {
		_, err := call[testMessage](t, alice, "send", testSend{To: bob.Agent(), Receipt: true, Message: testMessage{Do: "commit", Text: "once"}})
		done <- err
	}()
	await(t, func() bool { return len(notes(t, bob)) == 1 })
	p.setMute(false)
	p.cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if ours, theirs := receipts(t, alice), receipts(t, bob); len(ours) != 1 || !slices.Equal(ours, theirs) || len(notes(t, bob)) != 1 {
		t.Errorf("%d receipts of the sender, %d of the receiver, %q", len(ours), len(theirs), notes(t, bob))
	}
}

// A sender's chain that takes nothing: the other side has the receipt, and the error
// says so.
func TestReceiptTheSenderCantKeep(t *testing.T) {
	t.Parallel()
	alice, bob, _ := newPair(t)
	lc := &liveCall{node: alice.Node, app: alice.apps.all()[0], call: &sdk.Call{Kind: sdk.CallFunction, From: alice.Agent(), ID: newMessageID()}}
	payload, err := sdk.Marshal(testMessage{Do: "commit", Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := lc.app.chain.Close(); err != nil { // as a full disk: nothing is taken
		t.Fatal(err)
	}
	_, err = lc.Send(t.Context(), sdk.Message{To: bob.Agent(), Payload: payload, Receipt: true})
	e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, false)
	if !bytes.Contains([]byte(e.Text), []byte("has the receipt")) || len(receipts(t, bob)) != 1 {
		t.Errorf("%v; %d receipts of the receiver", e, len(receipts(t, bob)))
	}
}

// What asks for a receipt that is of something else is not delivered.
func TestReceiptRefused(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	bob := w.start("bob")
	a := bob.apps.all()[0]
	alice := sdktest.Key("alice")
	payload := []byte("x")
	key := messageKey{from: sdktest.ID("alice"), dna: a.hash, id: sdk.MessageID{1}}
	right := sdk.SignReceiptRequest(alice, a.hash, key.id, &sdk.Message{To: bob.Agent(), Payload: payload}, time.Now())
	for name, change := range map[string]func(*sdk.ReceiptRequest, *messageHeader){
		"right":     func(*sdk.ReceiptRequest, *messageHeader) {},
		"message":   func(r *sdk.ReceiptRequest, _ *messageHeader) { r.Message[3]++ },
		"payload":   func(r *sdk.ReceiptRequest, _ *messageHeader) { r.Payload[3]++ },
		"signature": func(r *sdk.ReceiptRequest, _ *messageHeader) { r.Signature[3]++ },
		"short":     func(*sdk.ReceiptRequest, *messageHeader) {},
	} {
		r, h := right, &messageHeader{}
		change(&r, h)
		h.Receipt = sdk.AppendReceiptRequest(h.Receipt, &r)
		if name == "short" {
			h.Receipt = h.Receipt[1:]
		}
		in, e := bob.admitted(t.Context(), a, key, h, payload)
		if (e == nil) != (name == "right") || e == nil && in.receipt == nil {
			t.Errorf("%s: %v", name, e)
		}
		if e != nil && (e.HandlerCode != sdk.HandlerCodeReceipt || e.Delivered != sdk.DeliveredNo) {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// A receiver that gives no receipt, or a false one: the message was answered, and
// the error says what is missing.
func TestReceiptOfAReceiverThatGivesNone(t *testing.T) {
	t.Parallel()
	m := &outgoing{to: sdktest.ID("bob")}
	r := sdk.SignReceiptRequest(sdktest.Key("alice"), sdk.DNAHash{1}, sdk.MessageID{1}, &sdk.Message{To: m.to}, time.Now())
	m.exchange = &exchange{request: r}
	mallory := r.Answer(sdktest.Key("mallory"), []byte("reply"))
	for name, answer := range map[string][]byte{"none": []byte("reply"), "empty": nil, "another's": append(mallory.ReplySignature[:], "reply"...)} {
		reply, receipt, e := m.accept(answer)
		if e == nil || reply != nil || receipt != nil || e.HandlerCode != sdk.HandlerCodeReceipt || e.Delivered != sdk.DeliveredYes || e.Retry {
			t.Errorf("%s: %v", name, e)
		}
	}
}
