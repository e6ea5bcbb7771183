package sdk

import (
	"errors"
	"strings"
	"testing"
)

func TestStage(t *testing.T) {
	t.Parallel()
	entry := func(n int) Entry { return Entry{Type: "t", Content: make([]byte, n)} }
	limits := CommitLimits{Entries: 3, Entry: 10, Bytes: 20}
	most := "; commit less at once or raise the setting"
	for name, test := range map[string]struct {
		limits CommitLimits
		before []int // sizes of entries that are taken
		entry  Entry
		want   *Error
	}{
		"the first":         {limits, nil, entry(10), nil},
		"empty":             {limits, []int{0}, entry(0), nil},
		"the last":          {limits, []int{10, 0}, entry(10), nil},
		"no limits":         {CommitLimits{}, []int{1000, 1000, 1000}, entry(1000), nil},
		"longest type":      {limits, nil, Entry{Type: strings.Repeat("t", MaxEntryType)}, nil},
		"public and strict": {limits, nil, Entry{Type: "t", Visibility: Public, Ordering: Strict}, nil},
		"no type": {limits, nil, Entry{},
			Fail(HandlerCodeCommit, `commit: entry type "": 1 to 64 bytes of UTF-8 expected`)},
		"long type": {limits, nil, Entry{Type: strings.Repeat("t", MaxEntryType+1)},
			Fail(HandlerCodeCommit, `commit: entry type "%s": 1 to 64 bytes of UTF-8 expected`, strings.Repeat("t", MaxEntryType+1))},
		"no UTF-8": {limits, nil, Entry{Type: "\xff"},
			Fail(HandlerCodeCommit, `commit: entry type "\xff": 1 to 64 bytes of UTF-8 expected`)},
		"the node's own type": {limits, nil, Entry{Type: "parley.genesis"},
			Fail(HandlerCodeCommit, `commit: entry type "parley.genesis": those that begin with "parley." are the node's own`)},
		"visibility":     {limits, nil, Entry{Type: "t", Visibility: 2}, Fail(HandlerCodeCommit, "commit: visibility 2 is unknown")},
		"ordering":       {limits, nil, Entry{Type: "t", Ordering: 2}, Fail(HandlerCodeCommit, "commit: ordering 2 is unknown")},
		"largest public": {CommitLimits{}, nil, Entry{Type: "t", Visibility: Public, Content: make([]byte, MaxPublic-262)}, nil},
		"largest public, long type": {CommitLimits{}, nil, Entry{Type: strings.Repeat("t", MaxEntryType), Visibility: Public,
			Content: make([]byte, MaxPublic-325)}, nil},
		"large public": {CommitLimits{Entry: 10}, nil, Entry{Type: "t", Visibility: Public, Content: make([]byte, MaxPublic-261)},
			&Error{Code: TooLarge, Side: SideNode, Delivered: DeliveredYes,
				Text:  "commit: the entry is too large to be published, with its header and signature; commit it as private, or in parts",
				Limit: &Limit{Name: "public entry", Value: MaxPublic + 1, Max: MaxPublic}}},
		"large private": {CommitLimits{}, nil, entry(MaxPublic), nil},
		"large entry": {limits, nil, entry(11), &Error{Code: TooLarge, Side: SideNode, Delivered: DeliveredYes,
			Text: "commit: the entry is too large" + most, Limit: &Limit{Name: "entry", Setting: "chain-max-entry", Value: 11, Max: 10}}},
		"too many": {limits, []int{1, 1, 1}, entry(1), &Error{Code: TooLarge, Side: SideNode, Delivered: DeliveredYes,
			Text:  "commit: the call's entries are too many" + most,
			Limit: &Limit{Name: "entries of one call", Setting: "chain-max-entries", Value: 4, Max: 3}}},
		"too much": {limits, []int{10, 5}, entry(6), &Error{Code: TooLarge, Side: SideNode, Delivered: DeliveredYes,
			Text:  "commit: the call's entries are too large together" + most,
			Limit: &Limit{Name: "bytes of one call's entries", Setting: "max-payload", Value: 21, Max: 20}}},
	} {
		s := Stage{Limits: test.limits}
		for _, n := range test.before {
			if err := s.Add(new(entry(n))); err != nil {
				t.Fatalf("%s: entry of %d bytes: %v", name, n, err)
			}
		}
		was := s
		err := s.Add(&test.entry)
		switch {
		case test.want == nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want == nil:
			if s.Remove(&test.entry); s != was {
				t.Errorf("%s: taken back: %+v, was %+v", name, s, was)
			}
		case err == nil || err.Error() != test.want.Error():
			t.Errorf("%s:\ngot  %v\nwant %v", name, err, test.want)
		case s != was:
			t.Errorf("%s: was refused and counts: %+v, was %+v", name, s, was)
		}
		if e := (*Error)(nil); err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %T", name, err)
		}
	}
}
