package node

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// TestToldPace: however many revocations one agent sends, and however many agents
// there are, few are looked at; and those of an agent that is known still are.
func TestToldPace(t *testing.T) {
	t.Parallel()
	p, now := newToldPace(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	taken := func(from sdk.AgentID, who tellerKind, times int) (n int) {
		for range times {
			if p.take(now, from, who) {
				n++
			}
		}
		return n
	}
	if got := taken(sdk.AgentID{1}, tellerStranger, 1000); got != toldByOne.N {
		t.Errorf("%d of one stranger, want %d", got, toldByOne.N)
	}
	all := 0
	for i := range 3 * maxTellers {
		var id sdk.AgentID
		binary.BigEndian.PutUint32(id[4:], uint32(i+1))
		all += taken(id, tellerStranger, 3)
	}
	if want := toldByStrangers.N - toldByOne.N; all != want {
		t.Errorf("%d of all other strangers, want %d", all, want)
	}
	if len(p.agents) != maxTellers || len(p.ages) != maxTellers {
		t.Errorf("%d and %d agents are remembered", len(p.agents), len(p.ages))
	}
	if got := taken(sdk.AgentID{2}, tellerKnown, 1000); got != toldByOne.N {
		t.Errorf("%d of one who is known, want %d", got, toldByOne.N)
	}
	all = 0
	for i := range byte(2 * toldInUse.N / toldByOne.N) {
		all += taken(sdk.AgentID{4, i}, tellerInUse, 1000)
	}
	if all != toldInUse.N {
		t.Errorf("%d of those whose delegations are in use, want %d", all, toldInUse.N)
	}
	now = now.Add(2 * toldByOne.Per)
	if got := taken(sdk.AgentID{3}, tellerStranger, 1000); got != toldByOne.N {
		t.Errorf("%d of a stranger later, want %d", got, toldByOne.N)
	}
}
