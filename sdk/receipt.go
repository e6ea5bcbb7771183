package sdk

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Receipt is an exchange that both agents have signed: the same bytes stand on
// both chains, as an entry of TypeReceipt.
type Receipt struct {
	Request        ReceiptRequest
	Reply          Hash     // SHA-256 of the reply
	ReplySignature [64]byte // Ed25519 by Request.To
}

// ReceiptRequest is the sender's part, which travels with the message.
type ReceiptRequest struct {
	DNA      DNAHash
	Message  MessageID
	From, To AgentID
	Time     time.Time // by the sender's clock, when it was first sent: to the microsecond, UTC
	Payload  Hash      // SHA-256 of the request's payload
	Behalf   Hash      // SHA-256 of the Proof; zero: in the sender's own name
	Function string    // empty: a message
	// Signature is Ed25519 by From.
	Signature [64]byte
}

const (
	receiptVersion  = 1
	receiptFixed    = 1 + 32 + 16 + 32 + 32 + 8 + 32 + 32 + 1
	receiptRequest  = "parley-receipt-request-v1"
	receiptReply    = "parley-receipt-reply-v1"
	receiptReplyLen = 32 + 64
	// MaxReceiptRequest bounds a ReceiptRequest, in bytes.
	MaxReceiptRequest = receiptFixed + MaxName + 64
	// ReceiptReplySize is by how much the answer of a message with a receipt is
	// longer than its reply: the receiver's signature stands before it.
	ReceiptReplySize = 64
)

// AppendReceiptRequest appends the one encoding of r. Integers are big-endian.
//
//	 version 1 | DNA 32 | message 16 | from 32 | to 32 | time 8 (unix µs)
//	| payload 32 | behalf 32 | function: length 1, name | signature 64
//
// The signature is over "parley-receipt-request-v1" and the SHA-256 of all before it.
func AppendReceiptRequest(b []byte, r *ReceiptRequest) []byte {
	return append(appendStatement(b, r), r.Signature[:]...)
}

func appendStatement(b []byte, r *ReceiptRequest) []byte {
	b = append(b, receiptVersion)
	b = append(b, r.DNA[:]...)
	b = append(b, r.Message[:]...)
	b = append(b, r.From[:]...)
	b = append(b, r.To[:]...)
	b = binary.BigEndian.AppendUint64(b, linkTime(r.Time))
	b = append(b, r.Payload[:]...)
	b = append(b, r.Behalf[:]...)
	return append(append(b, byte(len(r.Function))), r.Function...)
}

// ParseReceiptRequest reads one that fills all of b. It checks no signature.
func ParseReceiptRequest(b []byte) (r ReceiptRequest, err error) {
	r, rest, err := parseReceiptRequest(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	if err != nil {
		return r, fmt.Errorf("receipt's request: %w", err)
	}
	return r, nil
}

func parseReceiptRequest(b []byte) (r ReceiptRequest, rest []byte, err error) {
	in := &linkReader{b: b}
	if v := in.take(1)[0]; v != receiptVersion {
		in.fault("version %d, only %d is known", v, receiptVersion)
	}
	copy(r.DNA[:], in.take(32))
	copy(r.Message[:], in.take(16))
	copy(r.From[:], in.take(32))
	copy(r.To[:], in.take(32))
	µs := binary.BigEndian.Uint64(in.take(8))
	if µs == 0 || µs > math.MaxInt64 {
		in.fault("%d is no time", µs)
	}
	r.Time = time.UnixMicro(int64(µs)).UTC()
	copy(r.Payload[:], in.take(32))
	copy(r.Behalf[:], in.take(32))
	r.Function = string(in.take(int(in.take(1)[0])))
	if in.err == nil && r.Function != "" {
		if err := CheckName(r.Function); err != nil {
			in.fault("function name: %v", err)
		}
	}
	copy(r.Signature[:], in.take(64))
	return r, in.b, in.err
}

// SignReceiptRequest makes the sender's part of a receipt for m.
func SignReceiptRequest(key ed25519.PrivateKey, dna DNAHash, id MessageID, m *Message, now time.Time) ReceiptRequest {
	r := ReceiptRequest{DNA: dna, Message: id, From: AgentID(key.Public().(ed25519.PublicKey)), To: m.To,
		Time: now.UTC().Truncate(time.Microsecond), Payload: sha256.Sum256(m.Payload), Function: m.Function}
	if len(m.Behalf) > 0 {
		r.Behalf = sha256.Sum256(m.Behalf)
	}
	copy(r.Signature[:], ed25519.Sign(key, r.signed()))
	return r
}

func (r *ReceiptRequest) signed() []byte {
	h := sha256.Sum256(appendStatement(nil, r))
	return append([]byte(receiptRequest), h[:]...)
}

// CheckMessage tells whether r is the sender's part of a receipt for this message.
func (r *ReceiptRequest) CheckMessage(dna DNAHash, id MessageID, from AgentID, m *Message) error {
	behalf := Hash{}
	if len(m.Behalf) > 0 {
		behalf = sha256.Sum256(m.Behalf)
	}
	switch {
	case r.DNA != dna:
		return errors.New("receipt: it is of another DNA")
	case r.Message != id:
		return errors.New("receipt: it is of another message")
	case r.From != from || r.To != m.To:
		return errors.New("receipt: it is of another sender or receiver")
	case r.Function != m.Function:
		return errors.New("receipt: it is of another function")
	case r.Payload != sha256.Sum256(m.Payload):
		return errors.New("receipt: it is of another payload")
	case r.Behalf != behalf:
		return errors.New("receipt: it is of another proof")
	}
	return r.verify()
}

func (r *ReceiptRequest) verify() error {
	if !plausibleKey(r.From) || !plausibleKey(r.To) {
		return errors.New("receipt: its sender or receiver is no agent")
	}
	if !ed25519.Verify(r.From[:], r.signed(), r.Signature[:]) {
		return errors.New("receipt: the sender has not signed it")
	}
	return nil
}

// Answer is the receiver's part: the receipt of a reply, signed.
func (r *ReceiptRequest) Answer(key ed25519.PrivateKey, reply []byte) Receipt {
	out := Receipt{Request: *r, Reply: sha256.Sum256(reply)}
	copy(out.ReplySignature[:], ed25519.Sign(key, out.signed()))
	return out
}

// Accept is the receipt of the answer that came to r, ReceiptReplySize bytes of
// signature and the reply, or says why there is none.
func (r *ReceiptRequest) Accept(answer []byte) (out Receipt, reply []byte, err error) {
	if len(answer) < ReceiptReplySize {
		return out, nil, errors.New("receipt: the answer has none")
	}
	reply = answer[ReceiptReplySize:]
	out = Receipt{Request: *r, Reply: sha256.Sum256(reply), ReplySignature: [64]byte(answer)}
	return out, reply, out.Verify()
}

// signed is what the receiver signs: "parley-receipt-reply-v1", the SHA-256 of the
// request with its signature, and the reply's hash.
func (r *Receipt) signed() []byte {
	h := sha256.Sum256(AppendReceiptRequest(nil, &r.Request))
	b := append([]byte(receiptReply), h[:]...)
	return append(b, r.Reply[:]...)
}

// Verify checks both signatures.
func (r *Receipt) Verify() error {
	if err := r.Request.verify(); err != nil {
		return err
	}
	if !ed25519.Verify(r.Request.To[:], r.signed(), r.ReplySignature[:]) {
		return errors.New("receipt: the receiver has not signed it")
	}
	return nil
}

// AppendReceipt appends the one encoding of r: the request, then
//
//	reply 32 | signature 64
func AppendReceipt(b []byte, r *Receipt) []byte {
	b = AppendReceiptRequest(b, &r.Request)
	b = append(b, r.Reply[:]...)
	return append(b, r.ReplySignature[:]...)
}

// ParseReceipt reads one that fills all of b. It checks no signature.
func ParseReceipt(b []byte) (r Receipt, err error) {
	var rest []byte
	if r.Request, rest, err = parseReceiptRequest(b); err == nil && len(rest) != receiptReplyLen {
		err = fmt.Errorf("%d bytes follow its request, %d expected", len(rest), receiptReplyLen)
	}
	if err != nil {
		return r, fmt.Errorf("receipt: %w", err)
	}
	copy(r.Reply[:], rest)
	copy(r.ReplySignature[:], rest[32:])
	return r, nil
}
