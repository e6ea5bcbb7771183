package sdk

import (
	"errors"
	"fmt"
)

// Init runs once in the life of a source chain, before any other call is let
// in. What it commits is appended together with the mark that it ran. If it
// fails, the handler is not run, the chain is as it was, and Init runs again at
// the next start; so does a DNA's first Init on a chain that is older than it.
// Messages to this agent are refused as Busy meanwhile, those of Init's own
// Sends included. A node that has just started may not find others yet.
func Init(f func(c *Context) error) Part {
	return Part{func(d *Definition) {
		if d.init != nil || f == nil {
			d.fault("init is defined twice, or has no body")
		}
		d.init = f
	}}
}

// Validate judges each entry: of this agent's before Commit stages it, so that
// Commit fails with HandlerCodeValidate, and of another agent's before anything
// is done with it. It must be pure, since each agent has to come to the same
// verdict: no clock, no randomness, no variables, nothing but the Candidate.
// A handler that judges otherwise needs another integrity version.
// f may be called concurrently.
func Validate(f func(e *Candidate) error) Part {
	return Part{func(d *Definition) {
		if d.validate != nil || f == nil {
			d.fault("validate is defined twice, or has no body")
		}
		d.validate = f
	}}
}

// Bounds of one PostCommit. A single record may have more bytes.
const (
	MaxPostCommitRecords = 128
	MaxPostCommitBytes   = 1 << 20
)

// PostCommit gets the records of each call that committed, once they are
// durable: in the order of the chain, one call at a time, and never in the way
// of the commit or its caller. The records of a call come together, up to the
// bounds above. They come at least once: after a crash, or an error of f, they
// come again, so f has to be repeatable. When f has failed PostCommitTries
// times, the node logs that and goes on with the next ones.
//
// What f commits comes to it as well: c.Commit without a condition never ends.
// A content that exceeds max-payload is withheld (nil).
func PostCommit(f func(c *Context, records []Record) error) Part {
	return Part{func(d *Definition) {
		if d.postCommit != nil || f == nil {
			d.fault("post_commit is defined twice, or has no body")
		}
		d.postCommit = f
	}}
}

// PostCommitTries is how often the same records are given to a PostCommit that
// fails.
const PostCommitTries = 5

// Candidate is an entry that Validate judges.
type Candidate struct {
	Type       string
	Visibility Visibility
	Content    []byte // must not be changed
	// Author is who signed it, or will; Own tells that it is this agent.
	Author AgentID
	Own    bool

	d *Definition
}

// Decode reads the content into *v, as QueryAs does.
func (e *Candidate) Decode(v any) error { return Unmarshal(e.Content, v) }

// Properties is Context.Properties: they are part of the DNA, and so the same
// for all agents.
func (e *Candidate) Properties(v any) error { return e.d.properties(v) }

func (d *Definition) properties(v any) error {
	var b []byte
	if s := d.setup.Load(); s != nil {
		b = s.Properties
	}
	b, err := PayloadFromJSON(b)
	if err == nil {
		err = UnmarshalStrict(b, v)
	}
	if err != nil {
		return fmt.Errorf("properties of %s: %w", d.name, err)
	}
	return nil
}

// judge is what Validate, which is there, says of an entry.
func (d *Definition) judge(e *Candidate) error {
	e.d = d
	err := d.validate(e)
	if err == nil {
		return nil
	}
	text := err.Error()
	if inner, ok := errors.AsType[*Error](err); ok && inner.HandlerCode != "" {
		text = inner.HandlerCode + ": " + inner.Text
	}
	return Fail(HandlerCodeValidate, "entry %q is not valid: %s", e.Type, text)
}

// callback is the part for a call of the node itself, and its name.
func (d *Definition) callback(call *Call) (run part, name string) {
	switch call.Kind {
	case CallInit:
		if d.init != nil {
			run = func(c *Context, _ []byte) ([]byte, error) { return nil, d.init(c) }
		}
		return run, "init"
	case CallValidate:
		if d.validate != nil && len(call.Records) == 1 {
			run = func(c *Context, _ []byte) ([]byte, error) { return nil, d.judgeRecord(c, &call.Records[0]) }
		}
		return run, "validate"
	}
	if d.postCommit != nil {
		run = func(c *Context, _ []byte) ([]byte, error) { return nil, d.postCommit(c, call.Records) }
	}
	return run, "post_commit"
}

func (d *Definition) judgeRecord(c *Context, r *Record) error {
	h := &r.Header
	return d.judge(&Candidate{Type: h.EntryType, Visibility: h.Visibility, Content: r.Content,
		Author: h.Author, Own: h.Author == c.Agent()})
}
