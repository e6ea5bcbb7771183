package control

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func queryToWire(dna string, q sdk.Query) *controlpb.ChainRequest {
	return &controlpb.ChainRequest{Dna: dna, Type: q.Type, From: q.From, To: q.To, Reverse: q.Reverse,
		Limit: int32(max(math.MinInt32, min(q.Limit, math.MaxInt32)))}
}

// maxQuery is the largest Query.Limit.
const maxQuery = 1000

func queryFromWire(m *controlpb.ChainRequest) (sdk.Query, error) {
	q := sdk.Query{Type: m.GetType(), From: m.GetFrom(), To: m.GetTo(), Reverse: m.GetReverse(), Limit: int(m.GetLimit())}
	switch {
	case len(q.Type) > sdk.MaxEntryType:
		return q, inputErrorf("type: %d bytes, at most %d allowed", len(q.Type), sdk.MaxEntryType)
	case q.To != 0 && q.To < q.From:
		return q, inputErrorf("to: %d is before from, %d", q.To, q.From)
	case q.Limit < 0 || q.Limit > maxQuery:
		return q, inputErrorf("limit: %d, 0 to %d allowed", q.Limit, maxQuery)
	}
	return q, checkName("dna", m.GetDna(), maxDNAText)
}

func chainInfoToWire(c *ChainInfo) *controlpb.ChainInfo {
	return &controlpb.ChainInfo{Dna: text(c.DNA), Hash: dnaText(c.Hash), Integrity: text(c.Integrity), Records: c.Records, Head: hashText(c.Head)}
}

func chainInfoFromWire(m *controlpb.ChainInfo) (ChainInfo, error) {
	var r reader
	c := ChainInfo{DNA: m.GetDna(), Hash: r.dna("hash", m.GetHash()), Integrity: m.GetIntegrity(), Records: m.GetRecords(), Head: r.hash("head", m.GetHead())}
	return c, r.err()
}

func verifyToWire(v *VerifyResult) *controlpb.VerifyChainResponse {
	return &controlpb.VerifyChainResponse{Dna: text(v.DNA), Hash: dnaText(v.Hash), Author: agentText(v.Author), Records: v.Records,
		Withheld: v.Withheld, Head: hashText(v.Head), Valid: v.Valid, Wrong: v.Wrong, Reason: text(v.Reason)}
}

func verifyFromWire(m *controlpb.VerifyChainResponse) (VerifyResult, error) {
	var r reader
	v := VerifyResult{DNA: m.GetDna(), Hash: r.dna("hash", m.GetHash()), Author: r.agent("author", m.GetAuthor()), Records: m.GetRecords(),
		Withheld: m.GetWithheld(), Head: r.hash("head", m.GetHead()), Valid: m.GetValid(), Wrong: m.GetWrong(), Reason: m.GetReason()}
	return v, r.err()
}

// recordToWire carries every field of the header, so that the hash can be
// computed from the message.
func recordToWire(rec *sdk.Record) *controlpb.Record {
	h := &rec.Header
	m := &controlpb.Record{
		Hash: rec.Hash().String(), Version: uint32(h.Version), Dna: dnaText(h.DNA), Author: agentText(h.Author),
		Seq: h.Seq, Prev: hashText(h.Prev), Time: timestamppb.New(h.Time), Kind: controlpb.RecordKind(h.Kind),
		EntryType: text(h.EntryType), Public: h.Visibility == sdk.Public, EntryHash: hashText(h.Entry),
		Cause: controlpb.CauseKind(h.Cause.Kind), CauseMessage: messageText(h.Cause.Message), CauseFrom: agentText(h.Cause.From),
		Signature: rec.Signature[:], Withheld: rec.Content == nil, Content: rec.Content,
	}
	if len(rec.Content) > 0 {
		m.Json = jsonOrEmpty(rec.Content)
	}
	return m
}

// recordFromWire accepts a record only if its fields give the hash that it
// states: nothing was lost or changed on the way.
func recordFromWire(m *controlpb.Record) (sdk.Record, error) {
	var r reader
	rec := sdk.Record{Header: sdk.Header{
		DNA: r.dna("dna", m.GetDna()), Author: r.agent("author", m.GetAuthor()), Seq: m.GetSeq(), Prev: r.hash("prev", m.GetPrev()),
		Time: r.time("time", m.GetTime()), EntryType: m.GetEntryType(), Entry: r.hash("entry_hash", m.GetEntryHash()),
		Cause: sdk.Cause{Message: r.message("cause_message", m.GetCauseMessage()), From: r.agent("cause_from", m.GetCauseFrom())},
	}}
	h := &rec.Header
	if m.GetPublic() {
		h.Visibility = sdk.Public
	}
	switch {
	case m.GetVersion() > math.MaxUint8 || m.GetKind() < 0 || m.GetKind() > math.MaxUint8 || m.GetCause() < 0 || m.GetCause() > math.MaxUint8:
		r.fail("header", errors.New("a number is out of range"))
	case len(m.GetSignature()) != len(rec.Signature):
		r.fail("signature", fmt.Errorf("%d bytes instead of %d", len(m.GetSignature()), len(rec.Signature)))
	case len(h.EntryType) == 0 || len(h.EntryType) > sdk.MaxEntryType || !utf8.ValidString(h.EntryType):
		r.fail("entry_type", fmt.Errorf("%d bytes, 1 to %d of UTF-8 expected", len(h.EntryType), sdk.MaxEntryType))
	}
	if err := r.err(); err != nil {
		return rec, err
	}
	h.Version, h.Kind, h.Cause.Kind = uint8(m.GetVersion()), sdk.RecordKind(m.GetKind()), sdk.CallKind(m.GetCause())
	copy(rec.Signature[:], m.GetSignature())
	if !m.GetWithheld() {
		rec.Content = append([]byte{}, m.GetContent()...)
	}
	if _, err := sdk.ParseHeader(sdk.AppendHeader(nil, h)); err != nil {
		return rec, err
	}
	if got := rec.Hash().String(); got != m.GetHash() {
		return rec, fmt.Errorf("hash: the record's is %s, stated is %.80q", got, m.GetHash())
	}
	return rec, nil
}
