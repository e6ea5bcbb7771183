package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
	"github.com/parley-p2p/parley/transport"
)

// TestOneWayFrames: of an agent that is blocked neither a cancellation nor a
// revocation does anything; of one that floods few revocations are looked at, and
// another agent's still are.
func TestOneWayFrames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		a, alice := n.add("raw", nil), sdktest.ID("alice")
		frame := func(kind uint8, id sdk.MessageID, body []byte) {
			n.ServeNotify(t.Context(), &transport.Request{Peer: transport.PeerKey(alice), Kind: kind, ID: id, Header: a.header, Body: body})
		}
		block := func(blocked bool) {
			t.Helper()
			set := func(r *agency.Rule) { r.Blocked = blocked }
			if err := n.changePolicy(map[sdk.AgentID][]func(*agency.Rule){alice: {set}}); err != nil {
				t.Fatal(err)
			}
		}
		key := messageKey{from: alice, dna: a.hash, id: sdk.MessageID{7}}
		canceled := 0
		n.outcomesMu.Lock()
		n.outcomes.begin(n.now(), key, cancelFunc(func(error) { canceled++ }))
		n.outcomesMu.Unlock()
		links := proofToBob(t, 0)
		revocation := signedRevocation(t, links[0].ID(), links[0].Expires)
		for _, c := range []struct {
			blocked bool
			want    int
		}{{true, 0}, {false, 1}} {
			block(c.blocked)
			frame(kindMessage, key.id, nil)
			frame(kindRevoked, newMessageID(), revocation)
			if known := n.revoker.checkKnown(links) != nil; canceled != c.want || known != !c.blocked {
				t.Errorf("blocked %t: canceled %d times, the revocation counts: %t", c.blocked, canceled, known)
			}
		}
		known := func() (count int) {
			n.revoker.mu.Lock()
			defer n.revoker.mu.Unlock()
			return len(n.revoker.table.known)
		}
		for i := range 3 * toldByOne.N {
			l := proofToBob(t, byte(i+1))[0]
			frame(kindRevoked, newMessageID(), signedRevocation(t, l.ID(), l.Expires))
		}
		if got := known(); got != toldByOne.N {
			t.Errorf("%d revocations of one agent were looked at, want %d", got, toldByOne.N)
		}
		time.Sleep(2 * toldByOne.Per)
		l := proofToBob(t, 255)
		frame(kindRevoked, newMessageID(), signedRevocation(t, l[0].ID(), l[0].Expires))
		if e := n.revoker.checkKnown(l); !errors.Is(e, sdk.Refused) {
			t.Errorf("afterwards: %v", e)
		}
	})
}
