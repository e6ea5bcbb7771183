package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// Config is what one run is made of. The zero value of a field is its default.
type Config struct {
	Nodes    int           // online at once, clients included; default 1,000
	Duration time.Duration // virtual time that is measured; default 1 h
	Warmup   time.Duration // virtual time before it; default 15 min, negative: none
	Seed     uint64
	Workers  int // cores; default 1. They change nothing but the wall time

	NAT     float64       // share of nodes that can't be dialled; default 0.45, negative: none
	Session time.Duration // median of a node's session, lognormal with 2.5% above 24 h; 0: nobody goes
	Lookups float64       // per node and hour; default 4, negative: none
	Zipf    float64       // exponent of the lookups' popularity; default 0.9
	Moves   float64       // address changes per node and hour; default 0.1, negative: none
	Diurnal float64       // amplitude of arrivals over the day; default 0.3, negative: none

	Loss    float64 // of packets; default 0.01, negative: none
	Slow    float64 // share of nodes that answer late; default 0.02, negative: none
	ColdRTT int     // round trips of the first answer of a new session, 2 or 3; default 2
	Silent  float64 // share of departures whose host answers nothing any more; default 0.5, negative: none

	Malicious float64   // share of the servers that collude
	Behaviour Behaviour // what they do

	Crypto bool       // real Ed25519, instead of tags
	Search dht.Search // how thorough lookups are
	// Off are the mitigations that are switched off; Groups switches off the limits
	// on contacts of one network.
	Off       dht.Ablation
	GroupsOff bool

	maxRecords int // of each node; 0: dht's default

	attack attack
	events []global
}

func (c Config) withDefaults() Config {
	def := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
		*v = max(*v, 0)
	}
	def(&c.NAT, 0.45)
	def(&c.Lookups, 4)
	def(&c.Zipf, 0.9)
	def(&c.Moves, 0.1)
	def(&c.Diurnal, 0.3)
	def(&c.Loss, 0.01)
	def(&c.Slow, 0.02)
	def(&c.Silent, 0.5)
	if c.Nodes == 0 {
		c.Nodes = 1000
	}
	if c.Duration == 0 {
		c.Duration = time.Hour
	}
	if c.Warmup == 0 {
		c.Warmup = 15 * time.Minute
	}
	c.Warmup = max(c.Warmup, 0)
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.ColdRTT == 0 {
		c.ColdRTT = 2
	}
	return c
}

func (c Config) validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.Nodes >= 2*bootstraps && c.Nodes <= 1e6, "%d nodes, allowed are %d to 1,000,000", c.Nodes, 2*bootstraps)
	check(c.Duration >= time.Minute && c.Duration <= 30*24*time.Hour, "duration %s, allowed are 1 min to 30 days", c.Duration)
	check(c.Workers >= 1 && c.Workers <= 64, "%d workers, allowed are 1 to 64", c.Workers)
	check(c.ColdRTT == 2 || c.ColdRTT == 3, "cold dials of %d round trips, allowed are 2 and 3", c.ColdRTT)
	check(c.Session == 0 || c.Session >= time.Minute && c.Session < 24*time.Hour, "median session %s, allowed are 1 min to 24 h", c.Session)
	for _, s := range []struct {
		name string
		v    float64
	}{{"NAT", c.NAT}, {"Loss", c.Loss}, {"Slow", c.Slow}, {"Silent", c.Silent}, {"Malicious", c.Malicious}} {
		check(s.v >= 0 && s.v < 1, "%s: %g, allowed is a share below 1", s.name, s.v)
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("sim: settings: %w", errors.Join(faults...))
}
