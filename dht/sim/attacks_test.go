package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// brief is a run that a test can afford, under an attack.
func brief(nodes int, edit func(*Config)) Config {
	c := Config{Nodes: nodes, Warmup: 20 * time.Second, Duration: 2 * time.Minute, Session: 2 * time.Hour, Lookups: 60, Seed: 3}
	edit(&c)
	return c
}

// Four fifths of the servers collude (A5), and most agents are found, unless the DHT is a plain one. What one
// path by itself would do only large networks show: here a table has most of what there is (scenario malicious).
func TestMalicious(t *testing.T) {
	t.Parallel()
	run := func(off dht.Ablation) Share {
		r, _ := mustRun(t, brief(300, func(c *Config) {
			c.NAT, c.Malicious, c.Behaviour, c.Session, c.Warmup, c.Duration, c.Lookups, c.Off = -1, .8, Same, 0, 10*time.Second, time.Minute, 180, off
		}))
		return r.Found
	}
	found, none := run(dht.Ablation{}), run(plain)
	t.Logf("found %.4f, %.4f without mitigations", found.Part, none.Part)
	if found.N < 50 || found.Part < .75 || none.High >= found.Low {
		t.Errorf("found %+v, without mitigations %+v", found, none)
	}
}

// Old records lose against newer ones, unless the first one wins (A2).
func TestStale(t *testing.T) {
	t.Parallel()
	lies := func(c *Config) { c.Malicious, c.Behaviour, c.Moves, c.Lookups = .5, Stale, 10, 240 }
	all, _ := mustRun(t, brief(160, lies))
	first, _ := mustRun(t, brief(160, func(c *Config) {
		lies(c)
		c.Off.Copies = true
	}))
	t.Logf("newest %.4f, %.4f if the first wins", all.Fresh.Part, first.Fresh.Part)
	if all.Fresh.Part < .9 || first.Fresh.Part > all.Fresh.Part-.02 {
		t.Errorf("newest %+v, if the first wins %+v", all.Fresh, first.Fresh)
	}
}

// Ids on one /24 do not fill tables, unless there is no limit (A7).
func TestEclipse(t *testing.T) {
	t.Parallel()
	attack := func(c *Config) { c.attack = &flood{ids: 70, perHour: 600} }
	limits, _ := mustRun(t, brief(70, attack))
	none, _ := mustRun(t, brief(70, func(c *Config) {
		attack(c)
		c.GroupsOff = true
	}))
	t.Logf("at most %.0f attackers in a table, %.0f without limits", limits.AttackersMost, none.AttackersMost)
	if limits.AttackersMost > 10 || none.AttackersMost < 15 || limits.Found.Part < .99 {
		t.Errorf("%.0f attackers, %.0f without limits; found %+v", limits.AttackersMost, none.AttackersMost, limits.Found)
	}
}

// Sybils around a record hide it where it is stored on the nearest only; their
// number must show (A6).
func TestSybils(t *testing.T) {
	t.Parallel()
	few, _ := mustRun(t, brief(70, func(c *Config) { c.attack = &sybils{each: 1, subnets: 1, targets: 2} }))
	many, _ := mustRun(t, brief(70, func(c *Config) {
		c.attack, c.GroupsOff = &sybils{each: 32, subnets: 32, targets: 2}, true
	}))
	t.Logf("found %.4f with 1 Sybil, %.4f with 32 and no limits", few.Targets.Part, many.Targets.Part)
	if few.Targets.N < 40 || few.Targets.Part < .95 || many.Targets.Part > few.Targets.Part {
		t.Errorf("found %+v, under attack %+v", few.Targets, many.Targets)
	}
}

// Callers get the places of a table that are free and no more, unless live
// contacts give way (A9). Nodes that start anew are watched (A8).
func TestHello(t *testing.T) {
	t.Parallel()
	run := func(restart bool, off dht.Ablation) *Result {
		r, _ := mustRun(t, brief(160, func(c *Config) {
			c.attack, c.Off = &flood{ids: 100, blocks: 32, perHour: 900, restart: restart}, off
		}))
		return r
	}
	usual, giveWay := run(false, dht.Ablation{}), run(false, dht.Ablation{KeepLive: true})
	if usual.PutOut != 0 || giveWay.PutOut < 100 || usual.Attackers.Part == 0 || giveWay.Attackers.Part <= usual.Attackers.Part {
		t.Errorf("%d live contacts put out, %.3f of the tables are attackers'; %d and %.3f where live contacts give way",
			usual.PutOut, usual.Attackers.Part, giveWay.PutOut, giveWay.Attackers.Part)
	}
	if r := run(true, dht.Ablation{}); r.Watched.N < 10 {
		t.Errorf("of the nodes that start anew %d contacts were seen", r.Watched.N)
	}
}

// A victim's address in signed records brings it dials: they are counted (A10).
func TestRedirect(t *testing.T) {
	t.Parallel()
	r, _ := mustRun(t, brief(50, func(c *Config) { c.Malicious, c.attack = .1, &redirect{} }))
	none, _ := mustRun(t, brief(50, func(c *Config) { c.attack = &redirect{} }))
	if r.VictimDials == 0 || none.VictimDials != 0 {
		t.Errorf("%g dials per node, %g where nobody names the victim", r.VictimDials, none.VictimDials)
	}
}

// Junk fills stores to their bound and no further, hides nobody, and puts out no agent's
// record, whoever brings it; unless a store drops what is oldest (A13).
func TestHoard(t *testing.T) {
	t.Parallel()
	run := func(poses bool, off dht.Ablation) *Result {
		r, _ := mustRun(t, brief(50, func(c *Config) {
			c.attack, c.maxRecords, c.Off = &hoard{ids: 20, perHour: 3600, poses: poses}, 96, off
		}))
		return r
	}
	for _, poses := range []bool{false, true} {
		if r := run(poses, dht.Ablation{}); r.Records.Max > 96 || r.Records.P50 < 36 || r.Found.Part < .999 || r.Evicted > 0 {
			t.Errorf("brought by their agents: %t: records %v, found %+v, %d dropped", poses, r.Records, r.Found, r.Evicted)
		}
	}
	if r := run(false, dht.Ablation{Stores: true}); r.Evicted < 100 || r.EvictedNear == 0 || r.EvictedNear > r.Evicted {
		t.Errorf("%d dropped where the oldest goes, %d at the nearest", r.Evicted, r.EvictedNear)
	}
}

// Half of the network may go at once (A14), where records have replicas.
func TestLeave(t *testing.T) {
	t.Parallel()
	r, s := mustRun(t, brief(80, func(c *Config) { c.events = massLeave(c) }))
	up := 0
	for i := range s.nodes {
		if s.nodes[i].up {
			up++
		}
	}
	if up > 55 || r.Found.N < 40 || r.Found.Part < .97 {
		t.Errorf("%d of 80 are left, found %+v", up, r.Found)
	}
	one, _ := mustRun(t, brief(80, func(c *Config) {
		c.events, c.Off = massLeave(c), dht.Ablation{Replicas: true, Holders: true}
	}))
	if one.Found.N < 40 || one.Found.Part > .9 {
		t.Errorf("with one replica: found %+v", one.Found)
	}
}

// Half of the stores may lie (A16).
func TestForget(t *testing.T) {
	t.Parallel()
	r, s := mustRun(t, brief(70, func(c *Config) { c.Malicious, c.Behaviour, c.Moves = .5, Forget, 10 }))
	liars := 0
	for i := range s.nodes {
		if s.nodes[i].forgets {
			liars++
		}
	}
	if liars < 8 || r.Found.Part < .99 {
		t.Errorf("%d liars, found %+v", liars, r.Found)
	}
}

// A cut network heals. Nodes that lost their uplink are not ready, harm nobody's
// lookups, and come back.
func TestCut(t *testing.T) {
	t.Parallel()
	cut, _ := mustRun(t, brief(50, func(c *Config) {
		c.Duration, c.events = 35*time.Minute, cutInTwo(time.Minute)
	}))
	if s := cut.after(28, 40); s.N < 20 || s.Part < .99 {
		t.Errorf("after the cut: found %+v", s)
	}
	lost, _ := mustRun(t, brief(150, func(c *Config) {
		c.Duration, c.events = 20*time.Minute, uplinks(time.Minute)
	}))
	if during, after := lost.after(0, 5), lost.after(14, 30); during.Part < .99 || after.Part < .99 {
		t.Errorf("uplinks lost: found %+v, afterwards %+v", during, after)
	}
}

// Every scenario's runs begin, and a report names its criteria and has its plots.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range Scenarios() {
		vs := s.plan(Options{Nodes: 100, Hours: .1, Seed: 1})
		if len(vs) == 0 || s.Title == "" || s.About == "" {
			t.Errorf("%s has no runs or says too little", s.Name)
		}
		for _, v := range vs {
			if err := v.Config.withDefaults().validate(); err != nil {
				t.Errorf("%s, %s: %v", s.Name, v.Name, err)
			}
		}
	}
	if _, err := RunScenario(t.Context(), "none", Options{}); err == nil {
		t.Error("an unknown scenario runs")
	}
	rep, err := RunScenario(t.Context(), "baseline", Options{Nodes: 30, Hours: .02, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := rep.Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.md", "report.json", "report.json"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(b) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text := rep.Markdown(); !strings.Contains(text, "hops to the first holder") || !strings.Contains(text, "seed 1") {
		t.Error("the report lacks its figures")
	}
}

// Settings outside their bounds are refused, all at once.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Config{Nodes: 3, Workers: 99, ColdRTT: 7, Malicious: 1})
	for _, want := range []string{"3 nodes", "99 workers", "7 round trips", "Malicious"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
