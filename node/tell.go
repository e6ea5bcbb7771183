package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

// maxTell bounds the body of a request of kindTell.
const maxTell = 8 << 10

// told is the body of a request of kindTell (docs/wire.md, section 8): the sender's
// node tells a holder of a grant, or of its end.
type told struct {
	DNA       []byte   `codec:"d"` // 32 bytes
	Grant     []byte   `codec:"g"` // 32 bytes
	Over      bool     `codec:"o,omitempty"`
	Functions []string `codec:"f,omitempty"`
	Expires   int64    `codec:"e,omitempty"` // Unix time, µs
}

func (t *told) encode() ([]byte, error) { return sdk.Marshal(t) }

// parseTold reads what another node tells: the claim and its DNA.
func parseTold(b []byte) (t told, claim sdk.Claim, err error) {
	if len(b) > maxTell {
		return t, claim, fmt.Errorf("%d bytes, at most %d", len(b), maxTell)
	}
	if err := sdk.Unmarshal(b, &t); err != nil {
		return t, claim, err
	}
	switch {
	case len(t.DNA) != 32:
		return t, claim, fmt.Errorf("DNA hash of %d bytes", len(t.DNA))
	case len(t.Grant) != 32:
		return t, claim, fmt.Errorf("name of a grant of %d bytes", len(t.Grant))
	case t.Expires < 0:
		return t, claim, errors.New("a time before 1970")
	}
	claim = sdk.Claim{Grant: sdk.Hash(t.Grant), Functions: t.Functions}
	if t.Expires > 0 {
		claim.Expires = time.UnixMicro(t.Expires).UTC()
	}
	return t, claim, claim.Check()
}

// serveTell notes what another agent says that it has granted, or no longer does.
// Nothing of it is proven but who says it, and nothing depends on it.
func (n *Node) serveTell(ctx context.Context, r *transport.Request) *sdk.Error {
	t, claim, err := parseTold(r.Body)
	if err != nil {
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, HandlerCode: sdk.HandlerCodeInput,
			Text: "what was told of a grant can't be read: " + err.Error()}
	}
	dna := sdk.DNAHash(t.DNA)
	if !n.apps.runs(dna) && (!n.awaitHandlers(ctx) || !n.apps.runs(dna)) {
		return errMissing("the DNA of the grant does not run on this node")
	}
	claim.Grantor = sdk.AgentID(r.Peer)
	held := agency.HeldClaim{Claim: claim, DNA: dna, Told: true}
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	if t.Over {
		if n.claims.table.Remove(held.Key()) {
			n.claims.touchedLocked([]agency.ClaimKey{held.Key()})
		}
		return nil
	}
	gone, e := n.claims.table.Add(n.now(), held)
	n.claims.touchedLocked(gone)
	if e != nil {
		return e
	}
	n.claims.touchedLocked([]agency.ClaimKey{held.Key()})
	return nil
}
