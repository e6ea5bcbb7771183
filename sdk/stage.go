package sdk

import "fmt"

// CommitLimits bound what one call commits. Zero is a bound that nobody told.
type CommitLimits struct {
	Entries int // how many entries (setting chain-max-entries)
	Entry   int // the content of one entry, in bytes (setting chain-max-entry)
	Bytes   int // the contents of all entries together, in bytes (setting max-payload)
}

// Stage is a node's rules for what one call commits. Every Host goes by them,
// in whichever process it is, so that an author gets the same error from the
// same Commit everywhere. A Stage counts; the entries are its owner's to keep.
// It is not for concurrent use.
type Stage struct {
	Limits CommitLimits

	entries, bytes int
}

// Add counts an entry in, or says why it can't be staged. That error is an
// *Error, and leaves the Stage as it was.
func (s *Stage) Add(e *Entry) error {
	if err := CheckEntryType(e.Type); err != nil {
		return Fail(HandlerCodeCommit, "commit: %v", err)
	}
	entries, bytes := s.entries+1, s.bytes+len(e.Content)
	switch l := s.Limits; {
	case e.Visibility > Public:
		return Fail(HandlerCodeCommit, "commit: visibility %d is unknown", e.Visibility)
	case e.Ordering > Strict:
		return Fail(HandlerCodeCommit, "commit: ordering %d is unknown", e.Ordering)
	case e.Visibility == Public && PublicSize(e.Type, e.Content) > MaxPublic:
		return publicTooLarge(PublicSize(e.Type, e.Content))
	case over(len(e.Content), l.Entry):
		return commitTooLarge("the entry is too large", "entry", "chain-max-entry", len(e.Content), l.Entry)
	case over(entries, l.Entries):
		return commitTooLarge("the call's entries are too many", "entries of one call", "chain-max-entries", entries, l.Entries)
	case over(bytes, l.Bytes):
		return commitTooLarge("the call's entries are too large together", "bytes of one call's entries", "max-payload", bytes, l.Bytes)
	}
	s.entries, s.bytes = entries, bytes
	return nil
}

// Remove takes back an entry that was counted in and then not staged.
func (s *Stage) Remove(e *Entry) {
	s.entries--
	s.bytes -= len(e.Content)
}

func over(n, limit int) bool { return limit > 0 && n > limit }

// commitTooLarge is of a call that runs, so it says "delivered".
func commitTooLarge(what, name, setting string, value, limit int) *Error {
	return &Error{Code: TooLarge, Side: SideNode, Delivered: DeliveredYes,
		Text:  fmt.Sprintf("commit: %s; commit less at once or raise the setting", what),
		Limit: &Limit{Name: name, Setting: setting, Value: uint64(value), Max: uint64(limit)}}
}

// publicTooLarge is of an entry that nobody could fetch.
func publicTooLarge(size int) *Error {
	return &Error{Code: TooLarge, Side: SideNode, Delivered: DeliveredYes,
		Text:  "commit: the entry is too large to be published, with its header and signature; commit it as private, or in parts",
		Limit: &Limit{Name: "public entry", Value: uint64(size), Max: MaxPublic}}
}
