package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// attacks are the scenarios of docs/dht.md's table of attacks that need a network.
var attacks = []Scenario{
	{Name: "stale", Title: "Stale records (A2)",
		About: "30% of the servers serve the oldest record that they were given, while agents move. The control ends a lookup with the first record.",
		plan: func(o Options) []Variant {
			return pair(o, func(c *Config) { c.Malicious, c.Behaviour, c.Moves, c.Search.Strict = .3, Stale, .5, true }, "first record wins", func(c *Config) { c.Off.Copies, c.Search.Strict = true, false })
		},
		judge: func(r *Report) {
			r.least(r.Runs[0].Name, "found records that are the newest", r.Runs[0].Result.Fresh.Part, .999)
			r.shows(r.Runs[1].Name, "found records that are old", 1-r.Runs[1].Result.Fresh.Part, .02)
		}},
	{Name: "sybil", Title: "Targeted Sybils (A6)",
		About: "16, 32 or 64 colluders nearer to a record than every honest node, in 1, 4 or 16 blocks; the agent publishes under the attack and goes. The control stores on the nearest nodes only, has no limits on networks, and asks no contacts of the agent.",
		plan:  planSybils, judge: judgeSybils},
	{Name: "eclipse", Title: "Tables filled by one host (A7)",
		About: "As many ids as there are nodes, on one /24, call every node again and again. The control has no limits on contacts of one network.",
		plan: func(o Options) []Variant {
			return pair(o, func(c *Config) { c.attack = &flood{ids: c.withDefaults().Nodes, perHour: 60} }, "no limits", func(c *Config) { c.GroupsOff = true })
		},
		judge: func(r *Report) {
			a := r.Runs[0].Result
			r.most(r.Runs[0].Name, "attackers in any table, most", a.AttackersMost, 10)
			r.least(r.Runs[0].Name, "lookups that find the record", a.Found.Part, .9999)
			r.shows(r.Runs[1].Name, "attackers in any table, most", r.Runs[1].Result.AttackersMost, 20)
		}},
	{Name: "hello", Title: "Calls that are to poison a table while a node restarts (A8)",
		About: "Attackers in 64 blocks, one for a hundred nodes, make 100,000 calls in the first 15 minutes of nodes that start with nothing but the bootstrap list. The control calls strangers back before the own first search, and takes any number of them.",
		plan: func(o Options) []Variant {
			attack := func(c *Config) {
				c.attack = &flood{ids: c.withDefaults().Nodes / 100, blocks: 64, total: 400e3, restart: true}
			}
			return pair(o, attack, "strangers first", func(c *Config) { c.Off.JoinFirst = true })
		},
		judge: func(r *Report) {
			r.most(r.Runs[0].Name, "attackers in the tables of the restarted", r.Runs[0].Result.Watched.Part, .05)
			r.least(r.Runs[0].Name, "lookups that find the record", r.Runs[0].Result.Found.Part, .9999)
			r.shows(r.Runs[1].Name, "attackers in the tables of the restarted", r.Runs[1].Result.Watched.Part, .05)
		}},
	{Name: "evict", Title: "Calls that are to put out live contacts (A9)",
		About: "Attackers in 64 blocks, one for ten nodes, make 10,000 calls a minute. The control lets the last that came put out a live contact.",
		plan: func(o Options) []Variant {
			return pair(o, func(c *Config) {
				c.attack = &flood{ids: c.withDefaults().Nodes / 10, blocks: 64, total: 600e3}
			}, "live contacts give way", func(c *Config) { c.Off.KeepLive = true })
		},
		judge: func(r *Report) {
			r.most(r.Runs[0].Name, "live contacts put out for others", float64(r.Runs[0].Result.PutOut), 0)
			r.least(r.Runs[0].Name, "lookups that find the record", r.Runs[0].Result.Found.Part, .9999)
			r.shows(r.Runs[1].Name, "live contacts put out for others", float64(r.Runs[1].Result.PutOut), 100)
		}},
	{Name: "crowd", Title: "Two attackers for each honest node",
		About: "Attackers in 64 blocks, twice as many as there are nodes, call nodes that start, or all. There is no criterion: nothing that the protocol sees tells them from honest nodes, and most of the network is theirs.",
		plan: func(o Options) []Variant {
			start, all := o.config(), o.config()
			n := 2 * start.withDefaults().Nodes
			start.attack = &flood{ids: n, blocks: 64, perHour: 120, restart: true}
			all.attack = &flood{ids: n, blocks: 64, perHour: 600}
			return []Variant{{Name: "nodes that start", Config: start}, {Name: "all nodes", Config: all}}
		},
		judge: func(*Report) {}},
	{Name: "redirect", Title: "Dials aimed at a victim (A10)",
		About: "A tenth of the servers name a thousand agents whose signed records all give one victim's address. The control dials addresses again however often nobody answered there.",
		plan: func(o Options) []Variant {
			return pair(o, func(c *Config) { c.Malicious, c.attack = .1, &redirect{} }, "no address is left alone", func(c *Config) { c.Off.LeaveAlone = true })
		},
		judge: func(r *Report) {
			r.shows(r.Runs[1].Name, "dials to the victim per node and 10 min", r.Runs[1].Result.VictimDials, 2)
			r.most(r.Runs[0].Name, "dials to the victim per node and 10 min", r.Runs[0].Result.VictimDials, 1)
		}},
	{Name: "storage", Title: "A flood of records (A13)",
		About: "Every server, which may keep 256 records, is given 1,500 junk records an hour, by 16 attackers in 4 blocks: as if others' records were handed on, with any addresses, or each over a session of its own agent. The control takes whatever comes, hands on all of it, and drops the oldest.",
		plan: func(o Options) []Variant {
			o.Hours = max(o.Hours, 1) // replicas are counted when they are old enough
			attack := func(poses bool) func(*Config) {
				return func(c *Config) { c.attack, c.maxRecords = &hoard{ids: 16, perHour: 1500, poses: poses}, 256 }
			}
			out := pair(o, attack(false), "the oldest goes", func(c *Config) { c.Off.Stores = true })
			posed := out[0]
			posed.Name, posed.Config = "brought by their agents", o.config()
			attack(true)(&posed.Config)
			return append(out, posed)
		},
		judge: func(r *Report) {
			r.shows(r.Runs[1].Name, "replicas at the nearest 16 that are lost", 1-r.Runs[1].Result.Overlap.Part, .2)
			r.shows(r.Runs[1].Name, "records of agents dropped for others", float64(r.Runs[1].Result.Evicted), 100)
			for _, i := range []int{0, 2} {
				v := r.Runs[i]
				r.most(v.Name, "records of agents dropped for others", float64(v.Result.Evicted), 0)
				r.least(v.Name, "lookups that find the record", v.Result.Found.Part, .9999)
				r.least(v.Name, "replicas at the nearest 16 after an hour", v.Result.Overlap.Part, .9)
				r.most(v.Name, "records per server, most", v.Result.Records.Max, 256)
			}
		}},
	{Name: "leave", Title: "Half of the nodes leave within a minute (A14)",
		About: "Silently, for good. The control has a record on the nearest node only, which nobody hands on and no other node answers with, never checks its contacts and has one path.",
		plan: func(o Options) []Variant {
			o.Hours = max(o.Hours, .75)
			return pair(o, func(c *Config) { c.events = append(c.events, massLeave(c)...) }, "one replica, no checks", func(c *Config) {
				c.Off.Recheck, c.Off.DisjointPaths, c.Off.Holders, c.Off.Replicas = true, true, true, true
			})
		},
		judge: func(r *Report) {
			now, later := r.Runs[0].Result.after(0, 5), r.Runs[0].Result.after(30, 1e6)
			r.shows(r.Runs[1].Name, "lookups that fail in the first 5 min without the mitigation", 1-r.Runs[1].Result.after(0, 5).Part, .1)
			r.least(r.Runs[0].Name, "found in the first 5 min", now.Part, .99)
			r.least(r.Runs[0].Name, "found after 30 min", later.Part, .999)
			r.most(r.Runs[0].Name, "minutes until 99.9% are found for good", r.Runs[0].Result.heal(0, .999), 30)
		}},
	{Name: "forget", Title: "Stores that lie (A16)",
		About: "Half of the servers take every PUT and keep nothing. There is no control: eight honest holders, and the agent's own node, are enough by themselves.",
		plan: func(o Options) []Variant {
			c := o.config()
			c.Malicious, c.Behaviour = .5, Forget
			return []Variant{{Name: "half lie", Config: c}}
		},
		judge: func(r *Report) {
			r.least(r.Runs[0].Name, "lookups that find the record", r.Runs[0].Result.Found.Part, .999)
		}},
	{Name: "partition", Title: "The network is cut in two for 20 min and heals",
		About: "Most records have holders on either side, and only who moves meanwhile is not found where he is; what counts is the time after it.",
		plan: func(o Options) []Variant {
			c := o.config()
			c.events = append(c.events, cutInTwo(c.withDefaults().Warmup)...)
			c.Duration = max(c.withDefaults().Duration, 70*time.Minute)
			return []Variant{{Name: "cut", Config: c}}
		},
		judge: func(r *Report) {
			r.shows(r.Runs[0].Name, "found records that are old while it is cut", 1-r.Runs[0].Result.newest(5, 25).Part, .02)
			r.most(r.Runs[0].Name, "minutes until 99.9% are found for good", r.Runs[0].Result.heal(25, .999), 30)
			r.least(r.Runs[0].Name, "found 30 min after it", r.Runs[0].Result.after(50, 1e6).Part, .999)
		}},
	{Name: "uplink", Title: "A tenth of the nodes loses its uplink for 10 min",
		About: "Nobody's process ends; lookups are those of all nodes, and those of a node without an uplink are none: it knows that it is not ready. There is no control: a table that is lost is found again in minutes.",
		plan: func(o Options) []Variant {
			o.Hours = max(o.Hours, .75)
			c := o.config()
			c.events = append(c.events, uplinks(c.withDefaults().Warmup)...)
			return []Variant{{Name: "uplink", Config: c}}
		},
		judge: func(r *Report) {
			r.least(r.Runs[0].Name, "found 15 min after it", r.Runs[0].Result.after(25, 1e6).Part, .999)
		}},
}

// pair is a run under attack and the same with a mitigation off.
func pair(o Options, attack func(*Config), off string, control func(*Config)) []Variant {
	a, b := o.config(), o.config()
	attack(&a)
	attack(&b)
	control(&b)
	return []Variant{{Name: "protocol", Config: a}, {Name: off, Control: true, Config: b}}
}

func planSybils(o Options) (out []Variant) {
	for _, v := range []struct{ each, subnets int }{{16, 1}, {16, 4}, {16, 16}, {32, 16}, {64, 16}} {
		for _, vanilla := range []bool{false, true} {
			c := o.config()
			c.attack = &sybils{each: v.each, subnets: v.subnets, targets: 4}
			c.Duration = min(c.withDefaults().Duration, time.Hour) // the records live no longer
			name := fmt.Sprintf("%d in %d", v.each, v.subnets)
			if vanilla {
				name += ", nearest only"
				c.Off.Region, c.Off.Holders, c.GroupsOff = true, true, true
			}
			out = append(out, Variant{Name: name, Control: vanilla, Config: c})
		}
	}
	return out
}

func judgeSybils(r *Report) {
	want := map[int]float64{16: .999, 32: .995, 64: .99}
	for _, v := range r.Runs {
		a := v.Config.attack.(*sybils)
		if v.Control {
			r.shows(v.Name, "lookups of the target that fail", 1-v.Result.Targets.Part, .95)
		} else {
			r.least(v.Name, "lookups of the target that succeed", v.Result.Targets.Part, want[a.each])
		}
	}
}

// massLeave lets half of the nodes go, a sixtieth of them each second.
func massLeave(c *Config) (out []global) {
	for i := range 60 {
		at := c.withDefaults().Warmup + time.Duration(i)*time.Second
		out = append(out, global{at, func(s *sim, at int64) {
			for j := range s.nodes {
				if n := &s.nodes[j]; n.up && !n.loyal && n.m != nil && j%2 == 0 && j/2%60 == i {
					s.parts[j%len(s.parts)].goDown(n, at, true)
					n.upAt = -1
				}
			}
		}})
	}
	return out
}

// cutInTwo cuts the network from 5 to 25 min after at.
func cutInTwo(at time.Duration) []global {
	set := func(side int8) func(*sim, int64) {
		return func(s *sim, _ int64) {
			for i := range s.nodes {
				s.nodes[i].side = side * int8(i%2)
			}
		}
	}
	return []global{{at + 5*time.Minute, set(1)}, {at + 25*time.Minute, set(0)}}
}

func uplinks(at time.Duration) []global {
	set := func(side int8) func(*sim, int64) {
		return func(s *sim, _ int64) {
			rnd := rand.New(rand.NewPCG(s.cfg.Seed, 3))
			for i := range s.nodes {
				if rnd.IntN(10) == 0 && !s.nodes[i].loyal {
					s.nodes[i].side = side
				}
			}
		}
	}
	return []global{{at, set(isolated)}, {at + 10*time.Minute, set(0)}}
}

// heal is how many minutes after from it takes until success is what it should
// be and stays so; the rest of the run if it does not.
func (r *Result) heal(from, should float64) float64 {
	healed := from
	for _, s := range r.Stages {
		if m := s.Minute - r.warmup; m >= from && s.Found.Part < should {
			healed = m + stageLength.Minutes()
		}
	}
	return healed - from
}

// newest is the share of the newest records among those found, as after.
func (r *Result) newest(from, to float64) Share {
	var k, n int64
	for _, s := range r.Stages {
		if m := s.Minute - r.warmup; m >= from && m < to {
			k, n = k+s.Fresh.K, n+s.Fresh.N
		}
	}
	return share(k, n)
}

// after is the success of the lookups that began between two minutes of the
// measured time.
func (r *Result) after(from, to float64) Share {
	var k, n int64
	for _, s := range r.Stages {
		if m := s.Minute - r.warmup; m >= from && m < to {
			k, n = k+s.Found.K, n+s.Found.N
		}
	}
	return share(k, n)
}

var _ = []attack{&sybils{}, &flood{}, &redirect{}, &hoard{}}
