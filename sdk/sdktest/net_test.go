package sdktest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// network adapts a Net to the conformance suite.
type network struct {
	*sdktest.Net
	max     int
	commits sdk.CommitLimits
}

type peer struct {
	*sdktest.Node
	net *sdktest.Net
}

func (n network) MaxPayload() int                { return n.max }
func (n network) CommitLimits() sdk.CommitLimits { return n.commits }
func (n network) Start(name string) sdktest.Peer {
	return peer{n.Node(name, sdktest.ConformanceDNA()), n.Net}
}
func (p peer) Records(context.Context) ([]sdk.Record, error) { return p.Chain(), nil }
func (p peer) Crash()                                        { p.net.Crash(p.Node) }

func TestHost(t *testing.T) {
	t.Parallel()
	sdktest.TestHost(t, func(t *testing.T) sdktest.Network {
		limits := sdk.CommitLimits{Entries: 100, Entry: 400 << 10, Bytes: 1 << 20}
		net := sdktest.New(t, sdktest.Options{MaxPayload: limits.Bytes, MaxEntries: limits.Entries, MaxEntry: limits.Entry})
		return network{net, limits.Bytes, limits}
	})
}

func double(_ *sdk.Context, n int) (int, error) { return 2 * n, nil }

func TestInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice := net.Node("alice", sdk.Define("d", "1", sdk.Function("double", double)))
		if got, err := sdktest.Call[int](alice, "double", 21); err != nil || got != 42 {
			t.Fatal(got, err)
		}
	})
}
