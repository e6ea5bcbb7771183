package sdktest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Network is what TestHost needs of an implementation of sdk.Host: nodes that
// know one another.
type Network interface {
	// Start starts a node that runs ConformanceDNA and returns once it can be
	// called and reached. name is unique within the Network.
	Start(name string) Peer
	// MaxPayload is the payload limit of every node, in bytes.
	MaxPayload() int
	// CommitLimits are what every node lets one call commit: at most 200 entries,
	// since a chain is read in one query, and some of 100 KiB among them.
	CommitLimits() sdk.CommitLimits
}

// Peer is one node of a Network.
type Peer interface {
	ID() sdk.AgentID
	// Call calls a function of ConformanceDNA as a client does.
	Call(ctx context.Context, function string, payload []byte) ([]byte, error)
	// Records is the whole source chain, the genesis record first.
	Records(ctx context.Context) ([]sdk.Record, error)
}

// Crasher is a Peer whose handler's process can be killed at once, while calls
// run in it; the node starts it again. TestHost uses it where it is there.
type Crasher interface{ Crash() }

// TestHost holds an implementation of sdk.Host against the promises. start is
// called once for each of the subtests and cleans up by t.Cleanup.
func TestHost(t *testing.T, start func(t *testing.T) Network) {
	for _, c := range []struct {
		name string
		run  func(*bench)
	}{
		{"who", testWho}, {"reply", testReply}, {"commit", testCommit}, {"rollback", testRollback},
		{"commit order", testOrder}, {"commit limits", testLimits}, {"commit too much", testTooMuch},
		{"strict", testStrict}, {"query", testQuery}, {"errors", testErrors}, {"nested error", testNested},
		{"unknown agent", testUnknownAgent}, {"unknown function", testUnknownFunction},
		{"deadline crosses", testDeadline}, {"timeout", testTimeout}, {"cancel crosses", testCancel},
		{"back to the sender", testBack}, {"to oneself", testSelf}, {"too large", testTooLarge},
		{"concurrent", testConcurrent}, {"context after return", testLater}, {"crash", testCrash},
		{"init", testInit}, {"validate", testValidate}, {"get", testGet}, {"post commit", testPostCommit},
		{"grant", testGrant}, {"grant to others", testGrantNobody}, {"grant transferable", testGrantTransferable},
		{"delegate", testDelegate}, {"delegate on", testDelegateOn}, {"delegate and call", testDelegateCall}, {"delegate and grant", testDelegateGrants}, {"delegate uses", testDelegateUses}, {"delegate large", testDelegateLarge},
		{"delegate and notify", testDelegateNotify},
		{"revoke delegation", testRevokeDelegation}, {"receipt", testReceipt}, {"receipt and failure", testReceiptFails},
		{"list grants", testListGrants}, {"list pages", testListPages}, {"list claims", testListClaims}, {"list delegations", testListDelegations},
		{"grant limits", testGrantLimits}, {"grant and call", testGrantAndCall}, {"remote errors", testRemoteErrors},
		{"notify", testNotify}, {"notify results", testNotifyResults}, {"notify one by one", testNotifyOneByOne},
		{"block and allow", testLists}, {"limit requests", testLimitRequests}, {"limit bytes", testLimitBytes}, {"limit signals", testLimitSignals},
		{"emit", testEmit}, {"online", testOnline}, {"send to many", testMany},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			n := start(t)
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
			t.Cleanup(cancel)
			c.run(&bench{T: t, ctx: ctx, net: n, alice: n.Start("alice"), bob: n.Start("bob"), token: rand.Text()})
		})
	}
}

// bench is one subtest's.
type bench struct {
	*testing.T
	ctx        context.Context
	net        Network
	alice, bob Peer
	token      string // names this subtest's signals
}

func (b *bench) try(ctx context.Context, p Peer, s Step) (r Result, err error) {
	in, err := sdk.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	out, err := p.Call(ctx, "do", in)
	if err != nil {
		return r, err
	}
	if err := sdk.Unmarshal(out, &r); err != nil {
		b.Fatal(err)
	}
	return r, nil
}

func (b *bench) do(p Peer, s Step) Result {
	b.Helper()
	r, err := b.try(b.ctx, p, s)
	if err != nil {
		b.Fatalf("%s: %v", s.Op, err)
	}
	return r
}

func (b *bench) send(s Step) Step { return Step{Op: "send", To: b.bob.ID(), Then: &s} }

// want checks every field of the error that a caller decides by. No delivered
// given means that any is right.
func (b *bench) want(err error, code sdk.Code, handlerCode string, side sdk.Side, delivered ...sdk.Delivered) *sdk.Error {
	b.Helper()
	e, ok := errors.AsType[*sdk.Error](err)
	if !ok {
		b.Fatalf("got %v, want an *sdk.Error of %s", err, code)
	}
	if e.Code != code || e.HandlerCode != handlerCode || side != 0 && e.Side != side ||
		len(delivered) > 0 && !slices.Contains(delivered, e.Delivered) {
		b.Fatalf("got  %v\nwant %s [%s] from %s, delivered one of %v", e, code, handlerCode, side, delivered)
	}
	return e
}

func (b *bench) wantRetry(e *sdk.Error) {
	b.Helper()
	if !e.Retry {
		b.Fatalf("a retry is safe, and the error denies it: %v", e)
	}
}

// notes are the texts on a chain, which must verify.
func (b *bench) notes(p Peer) (texts []string) {
	b.Helper()
	for _, r := range b.records(p) {
		if r.Header.EntryType != "note" {
			continue
		}
		var s string
		if err := sdk.Unmarshal(r.Content, &s); err != nil {
			b.Fatal(err)
		}
		texts = append(texts, s)
	}
	return texts
}

func (b *bench) records(p Peer) []sdk.Record {
	b.Helper()
	rs, err := p.Records(b.ctx)
	if err == nil {
		err = VerifyChain(rs)
	}
	if err != nil {
		b.Fatal(err)
	}
	return rs
}

// unmarked is records without the mark that init has run.
func (b *bench) unmarked(p Peer) []sdk.Record {
	b.Helper()
	return slices.DeleteFunc(b.records(p), func(r sdk.Record) bool { return r.Header.EntryType == "parley.init" })
}

func (b *bench) wantNotes(p Peer, want ...string) {
	b.Helper()
	if got := b.notes(p); !slices.Equal(got, want) {
		b.Fatalf("the chain holds %q, want %q", got, want)
	}
}
