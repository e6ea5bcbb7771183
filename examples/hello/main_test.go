package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func TestGreet(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", dna), net.Node("bob", dna)

	answer, err := sdktest.Call[string](alice, "greet", bob.ID())
	if want := "Noted, " + alice.ID().Short(); err != nil || answer != want {
		t.Fatalf("got %q, %v, want %q", answer, err, want)
	}
	if got := sdktest.Entries[string](bob, "greeting"); !slices.Equal(got, []string{"Hello!"}) {
		t.Errorf("bob's chain holds %q", got)
	}
	if got := sdktest.Entries[string](alice, "greeting"); len(got) != 0 {
		t.Errorf("alice's chain holds %q", got)
	}
}

func TestGreetNobody(t *testing.T) {
	t.Parallel()
	alice := sdktest.New(t).Node("alice", dna)
	if _, err := sdktest.Call[string](alice, "greet", sdktest.ID("nobody")); !errors.Is(err, sdk.UnknownAgent) {
		t.Fatalf("got %v, want %v", err, sdk.UnknownAgent)
	}
}
