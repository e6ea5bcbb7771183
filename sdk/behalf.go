package sdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// BehalfEntry is the content of a TypeBehalf: under which proof the records of the
// same cause came about.
type BehalfEntry struct {
	Time     time.Time // when the node checked it: to the microsecond, UTC
	Function string    // the one that was called; empty: a message
	Proof    Proof
}

const behalfVersion = 1

// AppendBehalf appends the one encoding of e:
//
//	version 1 | time 8 (unix µs, big-endian) | function: length 1, name | proof
func AppendBehalf(b []byte, e *BehalfEntry) []byte {
	b = append(b, behalfVersion)
	b = binary.BigEndian.AppendUint64(b, linkTime(e.Time))
	b = append(append(b, byte(len(e.Function))), e.Function...)
	return append(b, e.Proof...)
}

// ParseBehalf reads one that fills all of b. It reads the proof, and verifies
// nothing of it.
func ParseBehalf(b []byte) (e BehalfEntry, err error) {
	in := &linkReader{b: b}
	if v := in.take(1)[0]; v != behalfVersion {
		in.fault("version %d, only %d is known", v, behalfVersion)
	}
	µs := binary.BigEndian.Uint64(in.take(8))
	if µs == 0 || µs > math.MaxInt64 {
		in.fault("%d is no time", µs)
	}
	e.Time = time.UnixMicro(int64(µs)).UTC()
	if e.Function = string(in.take(int(in.take(1)[0]))); e.Function != "" && in.err == nil {
		in.err = CheckName(e.Function)
	}
	e.Proof = append(Proof{}, in.b...)
	if in.err == nil {
		_, in.err = e.Proof.Links()
	}
	if in.err != nil {
		return e, fmt.Errorf("on behalf: %w", in.err)
	}
	return e, nil
}

// CheckOwn holds the content of an entry that the node itself has written against
// what the rest of its record says: the proof of a TypeBehalf, at the time that it
// names, and both signatures of a TypeReceipt. Of other types it says nothing.
func CheckOwn(h *Header, content []byte) error {
	switch h.EntryType {
	case TypeBehalf:
		e, err := ParseBehalf(content)
		if err != nil {
			return err
		}
		if (e.Function != "") != (h.Cause.Kind == CallFunction) {
			return errors.New("on behalf: the record's cause is no such call")
		}
		_, err = e.Proof.Verify(e.Time, Use{Presenter: h.Cause.From, DNA: h.DNA, To: h.Author, Function: e.Function})
		return err
	case TypeReceipt:
		r, err := ParseReceipt(content)
		if err != nil {
			return err
		}
		if r.Request.DNA != h.DNA || h.Author != r.Request.From && h.Author != r.Request.To {
			return errors.New("receipt: it is of others")
		}
		return r.Verify()
	}
	return nil
}
