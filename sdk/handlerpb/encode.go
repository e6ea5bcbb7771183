package handlerpb

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/sdk"
)

// The frames that make up the traffic (calls, sends, their answers, results)
// are written by hand: generated code takes several allocations for each, at
// both ends. All others go through it, inside a frame. What is written is
// plain protobuf either way; the tests hold both forms against each other.
//
// A payload is always the last field of its frame. So a frame is a head and a
// tail, and the tail is the caller's payload itself, not a copy.

// Field numbers of handler.proto.
const (
	fieldFrames   = 1 // HostBatch, HandlerBatch
	fieldPart     = 2
	fieldLastPart = 3

	fieldCall = 1 // HostMessage, HandlerMessage

	hostStart  = 2 // HostMessage
	hostAnswer = 3
	hostCancel = 4

	handlerResult   = 2 // HandlerMessage
	handlerCallback = 3
	handlerCancel   = 4
	handlerLog      = 5

	startKind      = 1 // CallStart
	startFunction  = 2
	startID        = 3
	startFrom      = 4
	startPayload   = 5
	startRemaining = 6
	startRecords   = 7
	startBehalf    = 8

	resultReply = 1 // CallResult
	resultError = 2

	callbackID     = 1 // CallbackRequest
	callbackSend   = 2
	callbackCommit = 3

	sendTo        = 1 // Send
	sendPayload   = 2
	sendRemaining = 3
	sendFunction  = 4
	sendBehalf    = 5
	sendReceipt   = 6

	entryType       = 1 // Entry
	entryVisibility = 2
	entryOrdering   = 3
	entryContent    = 4

	answerID    = 1 // CallbackResult
	answerReply = 2
	answerHash  = 3
)

// headSize is room for the head of any frame that is written by hand, unless
// somebody acts on another one's behalf.
const headSize = 192

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return append(appendLen(b, field, len(v)), v...)
}

// appendLen begins a field of n bytes.
func appendLen(b []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(n))
}

// appendFrame appends a frame's head whose message is inner and then the tail.
func appendFrame(b []byte, call uint64, field protowire.Number, inner []byte, tail int) []byte {
	b = appendUint(b, fieldCall, call)
	b = appendLen(b, field, len(inner)+tail)
	return append(b, inner...)
}

// startHead appends the head of a call's start, and gives its tail.
func startHead(b []byte, call uint64, c *sdk.Call, remaining time.Duration) (head, tail []byte, err error) {
	if err := CheckCall(c); err != nil {
		return nil, nil, err
	}
	if len(c.Records) > 0 {
		rs, err := recordsToWire(c.Records)
		if err != nil {
			return nil, nil, err
		}
		return generic(b, call, hostStart, &CallStart{Kind: CallKind(c.Kind), Id: c.ID[:], From: c.From[:],
			RemainingMs: remainingToWire(remaining), Records: rs})
	}
	var a [headSize]byte
	in := appendUint(a[:0], startKind, uint64(c.Kind))
	if c.Function != "" {
		in = protowire.AppendString(protowire.AppendTag(in, startFunction, protowire.BytesType), c.Function)
	}
	in = appendBytes(in, startID, c.ID[:])
	in = appendBytes(in, startFrom, c.From[:])
	if ms := remainingToWire(remaining); ms != 0 {
		in = appendUint(in, startRemaining, ms)
	}
	if len(c.Behalf) > 0 {
		in = appendBytes(in, startBehalf, c.Behalf)
	}
	if len(c.Payload) > 0 {
		in = appendLen(in, startPayload, len(c.Payload))
	}
	return appendFrame(b, call, hostStart, in, len(c.Payload)), c.Payload, nil
}

func callCancel(b []byte, call uint64) []byte {
	return appendUint(appendUint(b, fieldCall, call), hostCancel, 1)
}

// answerHead appends the head of a callback's answer, and gives its tail.
func answerHead(b []byte, call uint64, a *Answer) (head, tail []byte, err error) {
	var s [headSize]byte
	switch {
	case a.ID != 0 && a.Err == nil && a.Op == OpSend:
		in := appendUint(s[:0], answerID, a.ID)
		in = appendLen(in, answerReply, len(a.Reply)) // also where it is empty: it says what is answered
		return appendFrame(b, call, hostAnswer, in, len(a.Reply)), a.Reply, nil
	case a.ID != 0 && a.Err == nil && a.Op == OpCommit:
		in := appendBytes(appendUint(s[:0], answerID, a.ID), answerHash, a.Hash[:])
		return appendFrame(b, call, hostAnswer, in, 0), nil, nil
	}
	w, err := answerToWire(a)
	if err != nil {
		return nil, nil, err
	}
	return generic(b, call, hostAnswer, w)
}

// generic appends the head of a frame whose message is m, which is the tail.
func generic(b []byte, call uint64, field protowire.Number, m proto.Message) (head, tail []byte, err error) {
	tail, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, nil, malformed("%v", err)
	}
	return appendFrame(b, call, field, nil, len(tail)), tail, nil
}

// resultHead appends the head of a call's result, and gives its tail.
func resultHead(b []byte, call uint64, r *Result) (head, tail []byte, err error) {
	if r.Err != nil {
		return generic(b, call, handlerResult, resultToWire(r))
	}
	if len(r.Reply) == 0 {
		return appendFrame(b, call, handlerResult, nil, 0), nil, nil
	}
	var a [headSize]byte
	in := appendLen(a[:0], resultReply, len(r.Reply))
	return appendFrame(b, call, handlerResult, in, len(r.Reply)), r.Reply, nil
}

// callbackHead appends the head of a callback, and gives its tail.
func callbackHead(b []byte, call uint64, c *Callback) (head, tail []byte, err error) {
	switch {
	case c.Op == OpCommit:
		return commitHead(b, call, c)
	case c.ID == 0 && !c.unanswered():
		return nil, nil, errNoID
	case c.Op == OpSend:
		return sendHead(b, call, c)
	case c.Op > OpGet:
		w, err := agencyToWire(c)
		if err != nil {
			return nil, nil, err
		}
		return generic(b, call, handlerCallback, w)
	case c.Op == OpQuery:
		q, err := queryToWire(&c.Query)
		if err != nil {
			return nil, nil, err
		}
		return generic(b, call, handlerCallback, &CallbackRequest{Cb: c.ID, Op: &CallbackRequest_Query{Query: q}})
	case c.Op == OpGet:
		return generic(b, call, handlerCallback, &CallbackRequest{Cb: c.ID,
			Op: &CallbackRequest_Get{Get: &Get{Record: c.Record[:], RemainingMs: remainingToWire(c.Remaining)}}})
	}
	return nil, nil, malformed("callback operation %d", c.Op)
}

func sendHead(b []byte, call uint64, c *Callback) (head, tail []byte, err error) {
	m := &c.Message
	if err := checkMessage(m); err != nil {
		return nil, nil, err
	}
	var a, o [headSize]byte
	in := appendBytes(a[:0], sendTo, m.To[:])
	if ms := remainingToWire(c.Remaining); ms != 0 {
		in = appendUint(in, sendRemaining, ms)
	}
	if m.Function != "" {
		in = protowire.AppendString(protowire.AppendTag(in, sendFunction, protowire.BytesType), m.Function)
	}
	if len(m.Behalf) > 0 {
		in = appendBytes(in, sendBehalf, m.Behalf)
	}
	if m.Receipt {
		in = appendUint(in, sendReceipt, 1)
	}
	if len(m.Payload) > 0 {
		in = appendLen(in, sendPayload, len(m.Payload))
	}
	out := appendUint(o[:0], callbackID, c.ID)
	out = append(appendLen(out, callbackSend, len(in)+len(m.Payload)), in...)
	return appendFrame(b, call, handlerCallback, out, len(m.Payload)), m.Payload, nil
}

// commitHead is of a commit. Without an id it wants no answer.
func commitHead(b []byte, call uint64, c *Callback) (head, tail []byte, err error) {
	e := &c.Entry
	if err := CheckEntry(e); err != nil {
		return nil, nil, err
	}
	var a, o [headSize]byte
	in := protowire.AppendString(protowire.AppendTag(a[:0], entryType, protowire.BytesType), e.Type)
	if e.Visibility != 0 {
		in = appendUint(in, entryVisibility, uint64(e.Visibility))
	}
	if e.Ordering != 0 {
		in = appendUint(in, entryOrdering, uint64(e.Ordering))
	}
	if len(e.Content) > 0 {
		in = appendLen(in, entryContent, len(e.Content))
	}
	out := o[:0]
	if c.ID != 0 {
		out = appendUint(out, callbackID, c.ID)
	}
	out = append(appendLen(out, callbackCommit, len(in)+len(e.Content)), in...)
	return appendFrame(b, call, handlerCallback, out, len(e.Content)), e.Content, nil
}

func callbackCancel(b []byte, call, cb uint64) []byte {
	return appendUint(appendUint(b, fieldCall, call), handlerCancel, cb)
}
