// Package dht finds an agent's address by its public key: a Kademlia DHT
// (Maymounkov, Mazières 2002) that holds signed, expiring, sequence-numbered
// address records. Messages and chain entries never touch it.
//
// The protocol is a pure state machine, core: its methods take the time and
// return the calls to make, so that a simulator and a real node run the same
// code. Around it stands one thin loop, DHT, which owns the goroutines and
// calls the other nodes through the Network that its user supplies.
//
//	id.go        Key, ID, the XOR metric
//	record.go    Record: the signed address record and its one encoding
//	message.go   Request, Response, Contact and what is checked of them
//	table.go     the routing table: buckets, replacements, siblings
//	closest.go   its entries by nearness
//	groups.go    how many contacts of one network are taken
//	store.go     records kept for others, sequence floors, the conflict rule
//	lookup.go    one iterative lookup over disjoint paths
//	op.go        operations made of lookups and calls: find, publish, read back
//	core.go      the state machine of one node: calls out and their answers
//	contacts.go  what a call's outcome says of the contact
//	serve.go     requests of others
//	schedule.go  what a node does by itself: bootstrap, refresh, republish
//	snapshot.go  what outlives a restart
//	dht.go       DHT: the loop
//	machine.go   Machine: the state machine without the loop, for simulators
//
// docs/dht.md has the design and the figures, docs/wire.md the formats.
package dht
