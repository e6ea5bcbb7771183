package dht

import (
	"errors"
	"testing"
)

// That nobody has a record is certain when half of the nearest nodes have said so.
func TestTurnout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer, fail int
		want         error
		silent       SilentError
	}{
		{0, 4, ErrNoAnswer, SilentError{}},
		{1, 3, ErrNoAnswer, SilentError{Asked: 4, Answered: 1}},
		{2, 2, ErrNotFound, SilentError{}},
		{1, 0, ErrNotFound, SilentError{}},
		{16, 16, ErrNoAnswer, SilentError{Asked: 16}}, // the nearest 16 failed
	} {
		n := newMemNet().prepare(t, 1, nil, nil)
		l, seeds := testLookup(true, 1, c.answer+c.fail, NodeID(Key{1}))
		for i, nd := range l.sorted(seeds, l.target) { // the nearest fail
			if nd.state = nodeFailed; i >= c.fail {
				nd.state = nodeAnswered
				l.replies++
			}
		}
		err := n.core.getError(&op{kind: opGet, lookup: l, result: &Result{}})
		var silent *SilentError
		if errors.As(err, &silent); !errors.Is(err, c.want) || (silent != nil) != (c.silent != SilentError{}) || silent != nil && *silent != c.silent {
			t.Errorf("%d answered, %d failed: %v", c.answer, c.fail, err)
		}
	}
}
