// Package node is parley's node: the process that holds one agent's key, its
// source chains, its sessions and its share of the DHT.
//
// Start with node.go (what a node consists of, and its life), then follow one
// message: out through call.go, send.go and connect.go, in through receive.go
// (docs/architecture.md walks it). The rest:
//
//	identity.go   the agent's key file
//	lock.go       one node per data directory
//	app.go        the DNAs that run here
//	callbacks.go  init, and validate for entries of other agents
//	postcommit.go post_commit: the chain is its queue
//	outcomes.go   a repeated message is answered with the first outcome
//	addresses.go  where agents answered; what to publish of oneself
//	dhtnet.go     the DHT's requests over sessions
//	cachefile.go  what is kept between runs and may be lost
//	control.go    what the control API sees
//
// This is the only package in which an agent (sdk.AgentID), a session's peer
// (transport.PeerKey) and a DHT key (dht.Key) are converted into one another.
package node

// Version is the node's, as status and `parley version` tell it.
const Version = "0.1.0"
