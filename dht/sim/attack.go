package sim

import "math/rand/v2"

// attack is what happens to the network besides its liars.
type attack interface {
	prepare(s *sim, rnd *rand.Rand)       // adds the attacker's nodes, before the network begins
	begin(s *sim, p *partition, n *node)  // sends a node the first event of its own
	step(p *partition, n *node, at int64) // evPlan
}
