package main

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// TestDHTLook has the commands look at real nodes, one of which stops in order.
func TestDHTLook(t *testing.T) {
	t.Parallel()
	bob := startNode(t, newData(t, ""))
	alice := startNode(t, newData(t, ""), "--bootstrap", bob.peer)
	carol := startNode(t, newData(t, ""), "--bootstrap", bob.peer)
	a, bobID, carolID := alice.data, bob.agent().String(), carol.agent().String()
	at := strings.Split(bob.peer, "@")[1]
	contains := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q is missing:\n%s", w, out)
			}
		}
	}

	table := okJSON[control.DHTTable](t, cmd("dht", "table", "--data", a, "--json"))
	var found bool
	for _, x := range table.Contacts {
		found = found || x.Agent == bob.agent() && x.Sibling && x.Role == control.RoleServer && len(x.Addresses) == 1 && x.Addresses[0].String() == at && x.RTT > 0 && !x.Since.IsZero()
	}
	if !found || len(table.Buckets) == 0 {
		t.Errorf("table: %+v", table)
	}
	contains(cmd("dht", "table", "--data", a).ok(t), bobID, at, "SIBLING", "REPLACEMENTS", "server")

	for _, flags := range [][]string{nil, {"--strict"}, {"--hardened"}} {
		l := okJSON[control.DHTLookup](t, cmd(append([]string{"dht", "lookup", bobID, "--trace", "--data", a, "--json"}, flags...)...))
		if l.Agent != bob.agent() || l.Outcome != control.OutcomeFound || !l.Final || l.Holders == 0 || l.Seq == 0 ||
			len(l.Addresses) != 1 || l.Addresses[0].String() != at || !l.Expires.After(l.Issued) {
			t.Errorf("lookup %v: %+v", flags, l)
		}
	}
	strict := okJSON[control.DHTLookup](t, cmd("dht", "lookup", carolID, "--strict", "--trace", "--data", a, "--json"))
	if len(strict.Steps) == 0 || strict.Steps[0].Hop == 0 || strict.Steps[0].Took <= 0 {
		t.Errorf("steps: %+v", strict.Steps)
	}
	contains(cmd("dht", "lookup", carolID, "--strict", "--trace", "--data", a).ok(t), "found in", "held by", "PATH", "record", carolID)
	if out := cmd("dht", "lookup", carolID, "--strict", "--data", a).ok(t); strings.Contains(out, "PATH") {
		t.Errorf("steps that nobody asked for:\n%s", out)
	}

	stats := okJSON[control.DHTStats](t, cmd("dht", "stats", "--data", a, "--json"))
	if stats.Agent != alice.agent() || len(stats.ID) != 64 || !stats.Ready || stats.Contacts == 0 || stats.Calls == 0 || stats.Nodes < 2 || stats.Seq == 0 || stats.Session == 0 || stats.OwnCalls == 0 {
		t.Errorf("stats: %+v", stats)
	}
	contains(cmd("dht", "stats", "--data", a).ok(t), alice.agent().String(), stats.ID, "kept for others", "own record", "calls at once for itself", "uplink", "up\n")
	contains(cmd("status", "--data", a).ok(t), "server: others can dial it")

	stranger := strings.TrimSpace(cmd("id", "--data", newData(t, "")).ok(t))
	began := time.Now()
	r := cmd("dht", "lookup", stranger, "--strict", "--trace", "--data", a)
	if r.code != exitSDK+int(sdk.UnknownAgent) {
		t.Errorf("an unknown agent: %+v", r)
	}
	if took := time.Since(began); took > 10*time.Second { // with the process, on a busy machine
		t.Errorf("it took %s", took)
	}
	contains(r.out, "not found in", "PATH", bobID)
	contains(r.err, stranger, "is its node running")

	carol.stop()
	r = cmd("dht", "lookup", carolID, "--data", a)
	if r.code != exitSDK+int(sdk.Unreachable) {
		t.Errorf("an agent that has stopped: %+v", r)
	}
	contains(r.out, "withdrawn in", "number ")
	contains(r.err, carolID, "has gone offline")
	if r := cmd("lookup", carolID, "--data", a); r.code != exitSDK+int(sdk.Unreachable) {
		t.Errorf("lookup: %+v", r)
	}
	if r := cmd("ping", carolID, "--data", a); r.code != exitSDK+int(sdk.Unreachable) || !strings.Contains(r.err, "has gone offline") {
		t.Errorf("ping: %+v", r)
	}
}

// What others say reaches no terminal as it is.
func TestDHTTextIsClean(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[2J\nroot# "
	now := time.Unix(1e9, 0)
	for _, text := range []string{
		dhtLookupText(&control.DHTLookup{Outcome: evil, Role: evil, Steps: []control.DHTStep{{Answer: evil, Error: evil}}}, true, now),
		dhtTableText(&control.DHTTable{Buckets: []control.DHTBucket{{}}, Contacts: []control.DHTContact{{Role: evil}}}, now),
		dhtStatsText(&control.DHTStats{ID: evil, WhyClient: evil, PublishError: evil}, now),
		cleanLine(outcomeError(&control.DHTLookup{Reason: evil}).Error()),
	} {
		if strings.Contains(text, "\x1b") || strings.Contains(text, "\nroot#") {
			t.Errorf("%q", text)
		}
	}
}
