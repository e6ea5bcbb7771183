// Package dht finds an agent's address by its public key: a Kademlia DHT
// (Maymounkov, Mazières 2002) that holds signed, expiring, sequence-numbered
// address records, and public entries. Messages and private entries never touch it.
//
// The protocol is a pure state machine, core: its methods take the time and
// return the calls to make, so that a simulator and a real node run the same
// code. Around it stands one thin loop, DHT, which owns the goroutines and
// calls the other nodes through the Network that its user supplies.
//
//	id.go          Key, ID, the XOR metric
//	record.go      Record: the signed address record and its one encoding
//	message.go     Request, Response, Contact and what is checked of them
//	table.go       the routing table: buckets, siblings
//	checks.go      when its contacts are to be checked, its buckets explored
//	candidates.go  who may enter it: those whom others named, those who came
//	closest.go     its entries by nearness
//	pinned.go      those whose sessions are worth keeping open
//	groups.go      how many contacts of one network are taken
//	store.go       records kept for others, sequence floors, the conflict rule; shelf.go: their order; origin.go: who brought them
//	entry.go       public entries kept for others
//	lookup.go      one iterative lookup over disjoint paths; nodes.go: whom it knows; path.go: one path; flight.go: calls under way, and whether they are enough
//	named.go       what a lookup takes of those whom an answer names
//	region.go      where a record belongs, and what is odd around a target
//	op.go          operations made of lookups and calls: find, publish, read back
//	core.go        the state machine of one node: calls out and their answers
//	contacts.go    what a call's outcome says of the contact
//	probe.go       contacts, candidates and strangers to be asked for their record; few.go: a map that has next to nothing in it
//	deliver.go     requests in the background: repair, hand-over, SYNC
//	serve.go       requests of others; budget.go: what each of them may have
//	early.go       reads that came before their session
//	learn.go       records that agents send of themselves
//	schedule.go    what a node does by itself, and when: join, refresh, check
//	publish.go     the own record: signed, published, read back; withdraw.go: taken back
//	ready.go       whether others find this node; look.go: what an operator sees
//	dialback.go    whether it can be dialled: server or client
//	uplink.go      whether it is its own network that fails
//	sessions.go    how long nodes stay; links.go: open sessions, and their end
//	pace.go        how many calls a busy machine makes of its own accord
//	snapshot.go    what outlives a restart
//	dht.go         DHT: the loop; search.go: what its users ask for
//	machine.go     Machine: the state machine without the loop, for simulators
//
// docs/dht.md has the design and the figures, docs/wire.md the formats.
package dht
