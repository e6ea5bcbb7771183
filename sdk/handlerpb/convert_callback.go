package handlerpb

import (
	"log/slog"

	"github.com/parley-p2p/parley/sdk"
)

// unanswered tells of a callback that needs no answer, and so no id: a commit, and a
// notification for whose results nobody waits and whose proof nobody has to check.
func (c *Callback) unanswered() bool {
	return c.Op == OpCommit || c.Op == OpNotify && !c.Notice.Wait && len(c.Notice.Behalf) == 0
}

// errNoID is of the others.
var errNoID = malformed("callback without an id")

func callbackFromWire(w *CallbackRequest) (c Callback, err error) {
	c.ID = w.GetCb()
	switch op := w.GetOp().(type) {
	case *CallbackRequest_Send:
		c.Op = OpSend
		m := &c.Message
		m.Function, m.Payload, m.Behalf, m.Receipt = op.Send.GetFunction(), op.Send.GetPayload(), proofFromWire(op.Send.GetBehalf()), op.Send.GetReceipt()
		if m.To, err = fixed[sdk.AgentID]("receiver", op.Send.GetTo()); err != nil {
			return c, err
		}
		if err = checkMessage(m); err != nil {
			return c, err
		}
		c.Remaining, err = remainingFromWire(op.Send.GetRemainingMs())
	case *CallbackRequest_Commit:
		c.Op = OpCommit
		if op.Commit == nil {
			return c, malformed("commit without an entry")
		}
		c.Entry, err = entryFromWire(op.Commit)
	case *CallbackRequest_Query:
		c.Op = OpQuery
		if op.Query == nil {
			return c, malformed("query without a query")
		}
		c.Query, err = queryFromWire(op.Query)
	case *CallbackRequest_Get:
		c.Op = OpGet
		if c.Record, err = fixed[sdk.Hash]("record hash", op.Get.GetRecord()); err != nil {
			return c, err
		}
		c.Remaining, err = remainingFromWire(op.Get.GetRemainingMs())
	case *CallbackRequest_Notify:
		c.Op = OpNotify
		if c.Notice, err = noticeFromWire(op.Notify); err != nil {
			return c, err
		}
		c.Remaining, err = remainingFromWire(op.Notify.GetRemainingMs())
	case *CallbackRequest_Emit:
		c.Op, c.Payload = OpEmit, op.Emit.GetPayload()
	case *CallbackRequest_Online:
		c.Op = OpOnline
		c.Agent, err = fixed[sdk.AgentID]("agent", op.Online.GetAgent())
	case *CallbackRequest_Grant:
		c.Op = OpGrant
		c.Grant, err = grantFromWire(op.Grant)
	case *CallbackRequest_Revoke:
		c.Op = OpRevoke
		c.Revoke, err = fixed[sdk.Hash]("name of a grant", op.Revoke.GetId())
	case *CallbackRequest_Claim:
		c.Op = OpClaim
		c.Claim, err = claimFromWire(op.Claim)
	case *CallbackRequest_Delegate:
		c.Op = OpDelegate
		c.Delegate, err = delegationFromWire(op.Delegate)
	case *CallbackRequest_List:
		c.Op = OpList
		c.List, err = listFromWire(op.List)
	default:
		return c, malformed("callback of an unknown kind")
	}
	if err == nil && c.ID == 0 && !c.unanswered() {
		err = errNoID
	}
	return c, err
}

func answerToWire(a *Answer) (*CallbackResult, error) {
	if a.ID == 0 {
		return nil, malformed("answer without a callback's id")
	}
	w := &CallbackResult{Cb: a.ID}
	if a.Err != nil {
		w.Outcome = &CallbackResult_Error{Error: errorToWire(a.Err)}
		return w, nil
	}
	switch a.Op {
	case OpSend:
		w.Outcome = &CallbackResult_Reply{Reply: a.Reply}
	case OpCommit:
		w.Outcome = &CallbackResult_Hash{Hash: a.Hash[:]}
	case OpQuery:
		rs, err := recordsToWire(a.Records)
		if err != nil {
			return nil, err
		}
		w.Outcome = &CallbackResult_Records{Records: rs}
	case OpGet:
		r, err := foundToWire(&a.Record)
		if err != nil {
			return nil, err
		}
		w.Outcome = &CallbackResult_Record{Record: r}
	case OpNotify:
		rs, err := resultsToWire(a.Results)
		if err != nil {
			return nil, err
		}
		w.Outcome = &CallbackResult_Notified{Notified: rs}
	case OpOnline:
		w.Outcome = &CallbackResult_Presence{Presence: &Presence{Online: a.Presence.Online, LastHeardUs: timeToWire(a.Presence.LastHeard)}}
	case OpGrant:
		c, err := claimToWire(&a.Claim)
		if err != nil {
			return nil, err
		}
		w.Outcome = &CallbackResult_Claim{Claim: c}
	case OpDelegate:
		if err := checkLen("proof", len(a.Proof), 1, sdk.MaxProof); err != nil {
			return nil, err
		}
		w.Outcome = &CallbackResult_Proof{Proof: a.Proof}
	case OpList:
		p, err := pageToWire(&a.Page)
		if err != nil {
			return nil, err
		}
		w.Outcome = &CallbackResult_Listing{Listing: p}
	case OpEmit, OpRevoke, OpClaim, OpDone:
		w.Outcome = &CallbackResult_Done{Done: &Done{}}
	default:
		return nil, malformed("callback operation %d", a.Op)
	}
	return w, nil
}

func answerFromWire(w *CallbackResult) (a Answer, err error) {
	a.ID = w.GetCb()
	if a.ID == 0 {
		return a, malformed("answer without a callback's id")
	}
	switch o := w.GetOutcome().(type) {
	case *CallbackResult_Reply:
		a.Op, a.Reply = OpSend, o.Reply
	case *CallbackResult_Hash:
		a.Op = OpCommit
		a.Hash, err = fixed[sdk.Hash]("entry hash", o.Hash)
	case *CallbackResult_Records:
		a.Op = OpQuery
		a.Records, err = recordsFromWire(o.Records)
	case *CallbackResult_Record:
		a.Op = OpGet
		a.Record, err = foundFromWire(o.Record)
	case *CallbackResult_Notified:
		a.Op = OpNotify
		a.Results, err = resultsFromWire(o.Notified)
	case *CallbackResult_Presence:
		a.Op = OpOnline
		a.Presence, err = presenceFromWire(o.Presence)
	case *CallbackResult_Claim:
		a.Op = OpGrant
		a.Claim, err = claimFromWire(o.Claim)
	case *CallbackResult_Proof:
		a.Op, a.Proof = OpDelegate, o.Proof
		err = checkLen("proof", len(o.Proof), 1, sdk.MaxProof)
	case *CallbackResult_Listing:
		a.Op = OpList
		a.Page, err = pageFromWire(o.Listing)
	case *CallbackResult_Done:
		a.Op = OpDone
	case *CallbackResult_Error:
		if o.Error == nil {
			return a, malformed("answer with an empty error")
		}
		a.Err, err = errorFromWire(o.Error)
	default:
		err = malformed("answer of an unknown kind")
	}
	return a, err
}

func resultToWire(r *Result) *CallResult {
	if r.Err != nil {
		return &CallResult{Error: errorToWire(r.Err)}
	}
	return &CallResult{Reply: r.Reply}
}

func resultFromWire(w *CallResult) (r Result, err error) {
	if w.GetError() == nil {
		return Result{Reply: w.GetReply()}, nil
	}
	if len(w.Reply) != 0 {
		return r, malformed("a result with a reply and an error")
	}
	r.Err, err = errorFromWire(w.Error)
	return r, err
}

// logToWire never fails: it cuts what is out of bounds.
func logToWire(l *LogRecord) *LogLine {
	w := &LogLine{Level: int32(max(-128, min(128, l.Level))), Text: clip(l.Text, maxText)}
	for _, a := range l.Attrs[:min(len(l.Attrs), maxAttrs)] {
		w.Attrs = append(w.Attrs, &Attr{Key: clip(a.Key, maxAttrKey), Value: clip(a.Value, maxAttrValue)})
	}
	return w
}

func logFromWire(w *LogLine) (l LogRecord, err error) {
	if w == nil || w.Level < -128 || w.Level > 128 || len(w.Text) > maxText || len(w.Attrs) > maxAttrs {
		return l, malformed("log line out of bounds")
	}
	l = LogRecord{Level: slog.Level(w.Level), Text: w.Text}
	for _, a := range w.Attrs {
		if len(a.GetKey()) > maxAttrKey || len(a.GetValue()) > maxAttrValue {
			return l, malformed("log attribute out of bounds")
		}
		l.Attrs = append(l.Attrs, LogAttr{Key: a.GetKey(), Value: a.GetValue()})
	}
	return l, nil
}
