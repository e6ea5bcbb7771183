package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// Scenario is one or more runs by name, and what they must show.
type Scenario struct {
	Name  string
	Title string
	About string // what is simulated, and where a control shows that the attack is one
	plan  func(Options) []Variant
	judge func(*Report)
}

// Options are what a user chooses of a scenario; zero values are its own.
type Options struct {
	Nodes   int
	Hours   float64
	Seed    uint64
	Workers int
	Crypto  bool
	Session time.Duration // where the scenario does not vary it
	Warmup  time.Duration
	Lookups float64 // per node and hour
	// Done is told of every run that has ended; may be nil.
	Done func(Variant, *Result)
}

// Variant is one run of a scenario.
type Variant struct {
	Name    string `json:"name"`
	Control bool   `json:"control,omitempty"` // a mitigation is off
	Config  Config `json:"-"`
}

// config is what all variants begin with.
func (o Options) config() Config {
	session := o.Session
	if session == 0 {
		session = 2 * time.Hour
	}
	return Config{Nodes: o.Nodes, Duration: time.Duration(o.Hours * float64(time.Hour)), Seed: o.Seed, Workers: o.Workers,
		Crypto: o.Crypto, Session: max(session, 0), Warmup: o.Warmup, Lookups: o.Lookups}
}

// Scenarios are all there are.
func Scenarios() []Scenario { return slices.Concat(scenarios, attacks) }

// RunScenario makes the runs of a scenario, one after the other, and judges them.
func RunScenario(ctx context.Context, name string, o Options) (*Report, error) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("sim: no scenario %q", name)
	}
	s := all[i]
	if o.Seed == 0 {
		o.Seed = 1
	}
	rep := &Report{Scenario: s.Name, Title: s.Title, About: s.About, Seed: o.Seed}
	for _, v := range s.plan(o) {
		r, err := Run(ctx, v.Config)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", name, v.Name, err)
		}
		rep.Runs = append(rep.Runs, VariantResult{v, r})
		if o.Done != nil {
			o.Done(v, r)
		}
	}
	s.judge(rep)
	return rep, nil
}

var scenarios = []Scenario{
	{Name: "baseline", Title: "A network that nobody attacks",
		About: "Sessions of median 2 h, 45% clients behind NAT, a tenth of the nodes changes address per hour.",
		plan:  func(o Options) []Variant { return []Variant{{Name: "baseline", Config: o.config()}} }, judge: judgeTargets},
	{Name: "size", Title: "Hops against the size of the network",
		About: "The same network with ever more nodes, up to --nodes.", plan: planSize, judge: judgeSize},
	{Name: "churn", Title: "Success against churn",
		About: "Median sessions of 24 min, 2 h, 8 h and without end.", plan: planChurn, judge: judgeChurn},
	{Name: "malicious", Title: "Success against the malicious fraction (A5)",
		About: "Servers that collude: they name the 128 nearest colluders in turn, have no record and keep none. The control is a plain DHT: one path, all contacts of an answer, records on the nearest nodes only, which alone answer with them, and tables that take whom anybody names in the place of live contacts.",
		plan:  planMalicious, judge: judgeMalicious},
	{Name: "thorough", Title: "What strict and hardened lookups cost",
		About: "A strict lookup asks all who could have the record, a hardened one goes over eight paths. Times are until the lookup ends.",
		plan:  planThorough, judge: judgeThorough},
}

func planThorough(o Options) (out []Variant) {
	for _, s := range []dht.Search{{}, {Strict: true}, {Hardened: true}} {
		c := o.config()
		c.Search = s
		out = append(out, Variant{Name: [...]string{"usual", "strict", "hardened"}[len(out)], Config: c})
	}
	return out
}

func judgeThorough(rep *Report) {
	strict, hardened := rep.Runs[1], rep.Runs[2]
	rep.most(strict.Name, "until all have answered, median, ms", strict.Result.Final.P50, 1200)
	rep.most(strict.Name, "until all have answered, 99th percentile, ms", strict.Result.Final.P99, 2500)
	rep.least(strict.Name, "found records that are the newest", strict.Result.Fresh.Part, .999)
	rep.most(hardened.Name, "requests per lookup", hardened.Result.Msgs.Mean, 85)
	rep.least(hardened.Name, "lookups that find the record", hardened.Result.Found.Part, .9999)
}

func planSize(o Options) (out []Variant) {
	most := o.Nodes
	if most == 0 {
		most = 4000
	}
	for n := 250; n < most; n *= 4 {
		out = append(out, sized(o, n))
	}
	return append(out, sized(o, most))
}

func sized(o Options, n int) Variant {
	o.Nodes = n
	return Variant{Name: fmt.Sprintf("%d nodes", n), Config: o.config()}
}

func planChurn(o Options) (out []Variant) {
	for _, m := range []time.Duration{24 * time.Minute, 2 * time.Hour, 8 * time.Hour, 0} {
		c := o.config()
		c.Session = m
		name := fmt.Sprintf("median %g h", m.Hours())
		if m == 0 {
			name = "nobody goes"
		}
		out = append(out, Variant{Name: name, Config: c})
	}
	return out
}

// plain is a DHT that trusts what it is told.
var plain = dht.Ablation{DisjointPaths: true, NewPerAnswer: true, Region: true, Holders: true, Probe: true, KeepLive: true}

func planMalicious(o Options) (out []Variant) {
	for _, f := range []float64{0, .1, .2, .3, .5} {
		for _, single := range []bool{false, true} {
			c := o.config()
			c.Malicious = f
			name := fmt.Sprintf("%.0f%%", 100*f)
			if single {
				name += ", plain"
				c.Off = plain
			}
			out = append(out, Variant{Name: name, Control: single, Config: c})
		}
	}
	return out
}

// judgeTargets holds every run against the targets of docs/dht.md.
func judgeTargets(rep *Report) {
	for _, v := range rep.Runs {
		r := v.Result
		rep.most(v.Name, "hops to the first holder, mean", r.Hops.Mean, 2.8)
		rep.most(v.Name, "hops, 99th percentile", r.Hops.P99, 4)
		rep.least(v.Name, "lookups that find the record", r.Found.Part, .9999)
		rep.most(v.Name, "first value, median, ms", r.First.P50, 350)
		rep.most(v.Name, "first value, 99th percentile, ms", r.First.P99, 900)
		rep.most(v.Name, "publication, median, ms", r.Publish.P50, 800)
		rep.most(v.Name, "publication, 90th percentile, ms", r.Publish.P90, 1500)
		rep.most(v.Name, "publication, 99th percentile, ms", r.Publish.P99, 3000)
		rep.most(v.Name, "requests per lookup", r.Msgs.Mean, 20)
		rep.most(v.Name, "cold dials per lookup", r.Cold.Mean, 10)
		rep.most(v.Name, "stale entries of full buckets", r.StaleFull.Part, .03)
		rep.most(v.Name, "stale entries of other buckets", r.StaleThin.Part, .08)
		rep.least(v.Name, "full buckets where they could be", r.FullBuckets.Part, .99)
		rep.least(v.Name, "nodes that know 15 of their 16 nearest", r.Know.Part, .95)
		if r.Overlap.N > 0 { // a short run has no records so old
			rep.least(v.Name, "replicas at the nearest 16 after an hour", r.Overlap.Part, .9)
		}
		rep.most(v.Name, "maintenance requests per node and hour", r.Maintenance, 600)
		rep.most(v.Name, "bytes of maintenance per second and node", r.Upkeep, 150)
	}
}

func judgeSize(rep *Report) {
	last := rep.Runs[len(rep.Runs)-1]
	rep.most(last.Name, "hops to the first holder, mean", last.Result.Hops.Mean, 2.8)
	rep.most(last.Name, "hops, 99th percentile", last.Result.Hops.P99, 4)
}

func judgeChurn(rep *Report) {
	for _, v := range rep.Runs {
		want := .9999
		if v.Result.SessionH > 0 && v.Result.SessionH < 1 {
			want = .999
		}
		rep.least(v.Name, "lookups that find the record", v.Result.Found.Part, want)
	}
}

func judgeMalicious(rep *Report) {
	want := map[float64]float64{0: .9999, .1: .999, .2: .999, .3: .995, .5: .95}
	for _, v := range rep.Runs {
		f := v.Result.Malicious
		switch {
		case !v.Control:
			rep.least(v.Name, "lookups that find the record", v.Result.Found.Part, want[f])
		case f >= .3:
			rep.shows(v.Name, "lookups that fail without the mitigation", 1-v.Result.Found.Part, .02)
		}
	}
}
