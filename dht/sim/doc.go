// Package sim runs networks of up to 100,000 nodes of package dht in virtual
// time: the state machine is the one that nodes run (dht.Machine), the network,
// the people and the attackers around it are models.
//
//	config.go     Config: what one run is made of, and its defaults
//	engine.go     events, partitions, windows: the same result on any number of cores
//	heap.go       the event queue
//	network.go    latency, loss, dials; messages on their way
//	pool.go       a node's open sessions
//	address.go    public addresses, spread as networks are
//	node.go       one node: its machine, its events
//	churn.go      who comes, goes and moves
//	workload.go   what agents look up
//	adversary.go  nodes that lie
//	attack.go     floods and Sybils from outside the network
//	start.go      a network in the middle of its life
//	census.go     what only an observer of the whole network sees
//	meter.go      counters and samples of one run
//	stats.go      quantiles, confidence intervals
//	scenario.go   runs by name, each with its criterion and its control
//	report.go     Markdown and JSON; svg.go: plots
//
// A run is determined by its Config, seed included: the number of workers and
// the machine change nothing but the wall time.
package sim
