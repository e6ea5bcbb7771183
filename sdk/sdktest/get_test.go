package sdktest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func boardNamed(name string) *sdk.Definition {
	return sdk.Define(name, "1", sdk.Function("pin", pin), sdk.Function("look", look))
}

// pinned commits a notice at x, and gives its record's hash.
func pinned(t *testing.T, x *sdktest.Node, text string) sdk.Hash {
	t.Helper()
	if _, err := sdktest.Call[sdk.None](x, "pin", text); err != nil {
		t.Fatal(err)
	}
	rs := x.Chain()
	return rs[len(rs)-1].Hash()
}

// Every node keeps the entries of all: an author may be away, but not everybody.
func TestGetWhileNodesAreAway(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob, carol := net.Node("alice", board), net.Node("bob", board), net.Node("carol", board)
	record := pinned(t, alice, "Free lamps")
	look := func(x *sdktest.Node, record sdk.Hash) error {
		_, err := sdktest.Call[string](x, "look", record)
		return err
	}
	net.Stop(alice)
	if err := look(bob, record); err != nil {
		t.Errorf("the author is away: %v", err)
	}
	if err := look(bob, sdk.Hash{1}); !sdk.IsNotFound(err) {
		t.Errorf("what nobody has: %v", err)
	}
	net.Cut(bob, carol)
	for _, h := range []sdk.Hash{record, {1}} {
		if err := look(bob, h); !errors.Is(err, sdk.Unreachable) || sdk.IsNotFound(err) {
			t.Errorf("everybody is away: %v", err)
		}
	}
	if err := look(bob, pinned(t, bob, "his own")); err != nil {
		t.Errorf("his own: %v", err)
	}
}

func TestGetOfAnotherDNA(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", boardNamed("one")), net.Node("bob", boardNamed("two"))
	if _, err := sdktest.Call[string](bob, "look", pinned(t, alice, "x")); !sdk.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// What could not be published is refused at its commit.
func TestPublicTooLarge(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice := net.Node("alice", board)
	_, err := sdktest.Call[sdk.None](alice, "pin", strings.Repeat("x", sdk.MaxPublic))
	e, ok := errors.AsType[*sdk.Error](err)
	if !ok || e.Code != sdk.TooLarge || e.Limit == nil || e.Limit.Name != "public entry" || e.Limit.Max != sdk.MaxPublic {
		t.Errorf("got %v", err)
	}
	if n := len(alice.Chain()); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestGetTakesTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, bob := net.Node("alice", board), net.Node("bob", board)
		record := pinned(t, alice, "x")
		net.Delay(alice, bob, 3*time.Second)
		began := time.Now()
		if _, err := sdktest.Call[string](bob, "look", record); err != nil || time.Since(began) != 6*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		began = time.Now()
		if _, err := sdktest.CallContext[string](ctx, bob, "look", record); !errors.Is(err, sdk.Timeout) || time.Since(began) != 4*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
