package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// friends are nodes that know one another. Each has a process's memory of its own.
func friends(t *testing.T, net *sdktest.Net, names ...string) []*sdktest.Node {
	t.Helper()
	var nodes []*sdktest.Node
	var ids []sdk.AgentID
	for _, name := range names {
		n := net.Node(name, define())
		nodes, ids = append(nodes, n), append(ids, n.ID())
	}
	for _, n := range nodes {
		if got, err := sdktest.Call[int](n, "join", ids); err != nil || got != len(names)-1 {
			t.Fatalf("join: %d, %v", got, err)
		}
	}
	return nodes
}

func who(t *testing.T, n *sdktest.Node) map[sdk.AgentID]Heard {
	t.Helper()
	list, err := sdktest.Call[[]Heard](n, "who", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	m := map[sdk.AgentID]Heard{}
	for _, h := range list {
		m[h.Agent] = h
	}
	return m
}

func TestBeatsAreHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		nodes := friends(t, net, "alice", "bob", "carol")
		alice, bob, carol := nodes[0], nodes[1], nodes[2]
		net.Stop(carol)
		if _, err := sdktest.Call[struct{}](alice, "beat", Beat{Mood: "here"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if h := who(t, bob)[alice.ID()]; !h.Here || h.Mood != "here" {
			t.Errorf("bob hears %+v", h)
		}
		results, err := sdktest.Call[map[string]string](alice, "tell", Beat{Mood: "busy"})
		if err != nil || results[bob.ID().String()] != "taken" || results[carol.ID().String()] == "taken" {
			t.Errorf("%v, %v", results, err)
		}
		if n := len(alice.Chain()) + len(bob.Chain()); n != 2 {
			t.Errorf("%d records: something was kept", n)
		}
		time.Sleep(time.Minute)
		if h := who(t, bob)[carol.ID()]; h.Here {
			t.Errorf("bob hears carol, who is away: %+v", h)
		}
	})
}

func TestStrangersAreNotHeard(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	nodes := friends(t, net, "alice", "bob")
	mallory := net.Node("mallory", define())
	if _, err := sdktest.Call[int](mallory, "join", []sdk.AgentID{nodes[0].ID()}); err != nil {
		t.Fatal(err)
	}
	results, err := sdktest.Call[map[string]string](mallory, "tell", Beat{Mood: "psst"})
	if err != nil || results[nodes[0].ID().String()] == "taken" {
		t.Errorf("%v, %v", results, err)
	}
}
