package dht

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// That nobody has a record is certain when half of k nodes have said so, or of the
// contacts where they are fewer. Whoever does not answer says nothing.
func TestTurnout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		contacts, answer, fail int
		want                   error
		silent                 SilentError
	}{
		{0, 0, 4, ErrNoAnswer, SilentError{}},
		{0, 1, 3, ErrNotFound, SilentError{}},
		{4, 1, 3, ErrNoAnswer, SilentError{Should: 4, Answered: 1}},
		{4, 2, 30, ErrNotFound, SilentError{}},
		{100, 7, 0, ErrNoAnswer, SilentError{Should: 16, Answered: 7}},
		{100, 8, 40, ErrNotFound, SilentError{}},
	} {
		n := newMemNet().prepare(t, 1, nil, nil)
		n.core.table.n = c.contacts
		l, seeds := testLookup(true, 1, c.answer+c.fail, NodeID(Key{1}))
		for i, at := range l.sorted(strangers(seeds...), &l.target) { // the nearest fail: anybody can invent them
			nd := &l.nodes[at]
			if nd.state = nodeFailed; i >= c.fail {
				nd.state = nodeAnswered
				l.replies++
			}
		}
		err := n.core.getError(&op{kind: opGet, lookup: l, result: &Result{}})
		silent, _ := errors.AsType[*SilentError](err)
		if !errors.Is(err, c.want) || (silent != nil) != (c.silent != SilentError{}) || silent != nil && *silent != c.silent {
			t.Errorf("%d contacts, %d answered, %d failed: %v", c.contacts, c.answer, c.fail, err)
		}
	}
}

// Where most of a small network has gone for good, what is not there is certain again.
func TestTurnoutAfterDepartures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 12)
		defer func() { stopAll(nodes) }()
		time.Sleep(time.Hour)
		stopAll(nodes[5:]) // killed: nothing is withdrawn
		nodes = nodes[:5]
		time.Sleep(20 * time.Minute)
		for i, n := range nodes {
			if _, err := n.Lookup(t.Context(), pub(testKey(3000+i))); !errors.Is(err, ErrNotFound) {
				t.Errorf("node %d of those left: %v", i, err)
			}
		}
	})
}

// Bootstrap nodes that were never there do not count.
func TestTurnoutDeadBootstraps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		boot := m.node(t, 1, nil, nil)
		n := m.node(t, 2, []Contact{{Key: boot.key}, {Key: pub(testKey(900))}, {Key: pub(testKey(901))}}, nil)
		defer stopAll([]*memNode{boot, n})
		time.Sleep(time.Hour)
		if _, err := n.Lookup(t.Context(), pub(testKey(3000))); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}
