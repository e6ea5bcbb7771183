package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/dht/sim"
)

var errCriteria = errors.New("not all criteria are met")

func (c *cli) dhtSimCommand() *cobra.Command {
	var o sim.Options
	var scenario, output string
	var strict bool
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Simulate networks of up to 100,000 nodes",
		Long: `Runs the DHT's own protocol code in a network of many nodes in virtual time, with
churn, clients behind NAT and attackers, and prints what it measured: as Markdown,
or as JSON. A run is determined by its seed: the number of workers changes only
how long it takes. With --output it writes report.md, report.json and plots.
With --strict a criterion that is missed makes the exit code 1.

Scenarios:
` + scenarioList(),
		Example: `  parley dht sim --nodes 1000 --hours 1
  parley dht sim --scenario malicious --nodes 2000 --hours 1 --output report`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.ContainsFunc(sim.Scenarios(), func(s sim.Scenario) bool { return s.Name == scenario }) {
				return usagef("no scenario %q; see parley dht sim --help", scenario)
			}
			// A run makes much garbage beside few live bytes per request; but it is to
			// stay below 8 GiB, unless whoever calls it has more for it.
			debug.SetGCPercent(300)
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(7 << 30)
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			o.Done = func(v sim.Variant, r *sim.Result) {
				fmt.Fprintf(c.errOut, "%s: %d lookups, %.2f%% found, %d requests in %s\n", v.Name, r.Found.N, 100*r.Found.Part, r.Requests,
					time.Duration(r.Wall*float64(time.Second)).Round(100*time.Millisecond))
			}
			rep, err := sim.RunScenario(ctx, scenario, o)
			if err != nil {
				return err
			}
			if output != "" {
				if err := rep.Write(output); err != nil {
					return err
				}
			}
			if c.json {
				err = c.printJSON(rep)
			} else {
				err = c.print(rep.Markdown())
			}
			if missed := rep.Missed(); strict && len(missed) > 0 {
				err = errors.Join(err, fmt.Errorf("%w: %d of %d", errCriteria, len(missed), len(rep.Criteria)))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&scenario, "scenario", "baseline", "what to simulate")
	f.IntVar(&o.Nodes, "nodes", 1000, "nodes online at once, clients included")
	f.Float64Var(&o.Hours, "hours", 1, "virtual hours that are measured")
	f.Uint64Var(&o.Seed, "seed", 1, "of all randomness")
	f.IntVar(&o.Workers, "workers", 1, "cores to use")
	f.DurationVar(&o.Session, "session", 2*time.Hour, "median session; negative: nobody goes")
	f.DurationVar(&o.Warmup, "warmup", 15*time.Minute, "virtual time before what is measured")
	f.Float64Var(&o.Lookups, "lookups", 4, "lookups per node and hour")
	f.BoolVar(&o.Crypto, "crypto", false, "real Ed25519 signatures instead of tags")
	f.BoolVar(&strict, "strict", false, "fail if a criterion is missed")
	f.StringVar(&output, "output", "", "directory for report.md, report.json and plots")
	return cmd
}

func scenarioList() string {
	var b strings.Builder
	for _, s := range sim.Scenarios() {
		fmt.Fprintf(&b, "  %-10s %s\n", s.Name, s.Title)
	}
	return b.String()
}
