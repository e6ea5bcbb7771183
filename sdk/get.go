package sdk

import "errors"

// Get finds the public entry of this DNA whose record has this hash, whoever its
// author is. The hash is Record.Hash of the record that PostCommit and Query tell
// the author of, and not the entry's that Commit returns. A private entry is found
// by nobody's Get, its author's included: see Query. It takes as long as a search
// of the network does, at most until c ends; what was found before comes at once.
//
// Its error is an *Error, and Retry is right in each: see IsNotFound for the one
// that is certain. Unreachable says that no node of the network answered, Busy that
// too many searches run, HandlerCodeValidate that this DNA's Validate refuses it.
func (c *Context) Get(record Hash) (Record, error) {
	if err := c.live("Get"); err != nil {
		return Record{}, err
	}
	r, err := c.call.host.Get(c.under(), record)
	if err != nil {
		return Record{}, hostError(err, DeliveredNo)
	}
	return r, nil
}

// GetAs is Get for an entry whose value is a T.
func GetAs[T any](c *Context, record Hash) (out Typed[T], err error) {
	if out.Record, err = c.Get(record); err != nil {
		return out, err
	}
	if err := Unmarshal(out.Content, &out.Value); err != nil {
		return out, Fail(HandlerCodeOutput, "get: entry %q of %s: %v", out.Header.EntryType, out.Header.Author.Short(), err)
	}
	return out, nil
}

// IsNotFound tells whether err is of a Get and says that there is no such entry:
// the nodes that would keep it answered, and none has it.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == HandlerFailed && e.HandlerCode == HandlerCodeNotFound
}
