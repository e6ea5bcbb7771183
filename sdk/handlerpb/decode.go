package handlerpb

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/sdk"
)

// fields calls f for each field of a message. v is set where the field is a
// varint, b where it is a string of bytes; fields of other types are of no
// version that we know and are passed over, like those of unknown numbers.
func fields(msg []byte, f func(n protowire.Number, v uint64, b []byte) error) error {
	for len(msg) > 0 {
		n, typ, size := protowire.ConsumeTag(msg)
		if size < 0 {
			return malformed("%v", protowire.ParseError(size))
		}
		msg = msg[size:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(msg)
			if b == nil {
				b = []byte{}
			}
		default:
			size = protowire.ConsumeFieldValue(n, typ, msg)
			n = 0 // no field of ours
		}
		if size < 0 {
			return malformed("%v", protowire.ParseError(size))
		}
		msg = msg[size:]
		if err := f(n, v, b); err != nil {
			return err
		}
	}
	return nil
}

// inner checks that a field which is a message came as one.
func inner(b []byte) error {
	if b == nil {
		return malformed("a number where a message belongs")
	}
	return nil
}

// own copies a payload out of the buffer that it arrived in. Empty is nil.
func own(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

// parseBatch calls frame for each frame and part for each piece.
func parseBatch(msg []byte, frame func([]byte) error, part func(piece []byte, last bool) error) error {
	return fields(msg, func(n protowire.Number, _ uint64, b []byte) error {
		switch {
		case n > fieldLastPart || n < fieldFrames:
			return nil
		case b == nil:
			return inner(b)
		case n == fieldFrames:
			return frame(b)
		}
		return part(b, n == fieldLastPart)
	})
}

// parseFrame takes a frame apart into its call and its only message.
func parseFrame(msg []byte, last protowire.Number) (call uint64, kind protowire.Number, value uint64, body []byte, err error) {
	err = fields(msg, func(n protowire.Number, v uint64, b []byte) error {
		switch {
		case n == fieldCall && b == nil:
			call = v
		case n == fieldCall:
			return malformed("a call's id that is no number")
		case n > last || n < fieldCall:
		case kind != 0:
			return malformed("frame with two messages")
		default:
			kind, value, body = n, v, b
		}
		return nil
	})
	if err == nil && call == 0 {
		err = malformed("frame without a call's id")
	}
	return call, kind, value, body, err
}

// FromNode is one frame as the handler receives it: of the call ID a start
// with the time that is left (0: no deadline), an answer, or its cancelling.
type FromNode struct {
	ID     uint64
	Start  *Start
	Answer *Answer
	Cancel bool
}

// parseFromNode parses a frame and keeps nothing of b.
func parseFromNode(msg []byte) (f FromNode, err error) {
	id, kind, v, body, err := parseFrame(msg, hostCancel)
	if err != nil {
		return f, err
	}
	f.ID = id
	switch kind {
	case hostStart:
		f.Start, err = parseStart(body)
	case hostAnswer:
		f.Answer, err = parseAnswer(body)
	case hostCancel:
		if f.Cancel = v == 1; !f.Cancel {
			err = malformed("cancel that is not true")
		}
	default:
		err = malformed("frame of an unknown kind")
	}
	if err != nil {
		return FromNode{ID: id}, err
	}
	return f, nil
}

func parseStart(msg []byte) (*Start, error) {
	if err := inner(msg); err != nil {
		return nil, err
	}
	s := &Start{}
	c := &s.Call
	var id, from []byte
	var ms, kind uint64
	err := fields(msg, func(n protowire.Number, v uint64, b []byte) (err error) {
		switch n {
		case startKind:
			kind = v
		case startFunction:
			c.Function = string(b)
		case startID:
			id = b
		case startFrom:
			from = b
		case startPayload:
			c.Payload = own(b)
		case startRemaining:
			ms = v
		case startRecords:
			c.Records, err = parseRecords(b)
		case startBehalf:
			c.Behalf = own(b)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if kind > uint64(sdk.CallNotified) {
		return nil, malformed("call kind %d", kind)
	}
	c.Kind = sdk.CallKind(kind)
	if err = CheckCall(c); err != nil {
		return nil, err
	}
	if c.ID, err = fixed[sdk.MessageID]("message id", id); err != nil {
		return nil, err
	}
	if c.From, err = fixed[sdk.AgentID]("sender", from); err != nil {
		return nil, err
	}
	s.Remaining, err = remainingFromWire(ms)
	return s, err
}

func parseRecords(msg []byte) ([]sdk.Record, error) {
	if err := inner(msg); err != nil {
		return nil, err
	}
	var w Records
	if err := proto.Unmarshal(msg, &w); err != nil {
		return nil, malformed("%v", err)
	}
	rs, err := recordsFromWire(&w)
	if len(rs) == 0 {
		rs = nil
	}
	return rs, err
}

func parseAnswer(msg []byte) (*Answer, error) {
	if err := inner(msg); err != nil {
		return nil, err
	}
	a := &Answer{}
	other, outcomes := false, 0
	err := fields(msg, func(n protowire.Number, v uint64, b []byte) (err error) {
		switch n {
		case answerID:
			a.ID = v
		case answerReply:
			outcomes++
			a.Op, a.Reply = OpSend, own(b)
		case answerHash:
			outcomes++
			a.Op = OpCommit
			a.Hash, err = fixed[sdk.Hash]("entry hash", b)
		default:
			other = true
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !other && a.ID == 0:
		return nil, malformed("answer without a callback's id")
	case !other && outcomes == 1:
		return a, nil
	case outcomes > 0 && !other:
		return nil, malformed("answer with two outcomes")
	}
	var w CallbackResult
	if err := proto.Unmarshal(msg, &w); err != nil {
		return nil, malformed("%v", err)
	}
	*a, err = answerFromWire(&w)
	return a, err
}

// FromHandler is one frame of the call ID as the node receives it. Exactly one
// of the other fields is set.
type FromHandler struct {
	ID       uint64
	Result   *Result
	Callback *Callback
	Cancel   uint64 // a callback's ID
	Log      *LogRecord
}

// parseFromHandler parses a frame and keeps nothing of b. The ID is given with
// an error too, where it is known.
func parseFromHandler(msg []byte) (f FromHandler, err error) {
	id, kind, v, body, err := parseFrame(msg, handlerLog)
	if err != nil {
		return f, err
	}
	f.ID = id
	switch kind {
	case handlerResult:
		f.Result, err = parseResult(body)
	case handlerCallback:
		f.Callback, err = parseCallback(body)
	case handlerCancel:
		if f.Cancel = v; v == 0 {
			err = malformed("cancel without a callback's id")
		}
	case handlerLog:
		f.Log, err = parseLog(body)
	default:
		err = malformed("frame of an unknown kind")
	}
	if err != nil {
		return FromHandler{ID: id}, err
	}
	return f, nil
}

func parseResult(msg []byte) (*Result, error) {
	if err := inner(msg); err != nil {
		return nil, err
	}
	r := &Result{}
	simple := true
	err := fields(msg, func(n protowire.Number, _ uint64, b []byte) error {
		switch n {
		case resultReply:
			r.Reply = own(b)
		case resultError:
			simple = false
		}
		return nil
	})
	if err != nil || simple {
		return r, err
	}
	var w CallResult
	if err := proto.Unmarshal(msg, &w); err != nil {
		return nil, malformed("%v", err)
	}
	*r, err = resultFromWire(&w)
	return r, err
}

func parseLog(msg []byte) (*LogRecord, error) {
	if err := inner(msg); err != nil {
		return nil, err
	}
	var w LogLine
	if err := proto.Unmarshal(msg, &w); err != nil {
		return nil, malformed("%v", err)
	}
	l, err := logFromWire(&w)
	return &l, err
}
