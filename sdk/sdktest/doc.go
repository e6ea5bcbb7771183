// Package sdktest runs a network of nodes within a test: no processes, no
// sockets, no disk, and milliseconds.
//
//	func TestPing(t *testing.T) {
//		net := sdktest.New(t)
//		alice, bob := net.Node("alice", dna), net.Node("bob", dna)
//		answer, err := sdktest.Call[string](alice, "ping", bob.ID())
//		…
//		if got := sdktest.Entries[string](bob, "pinged"); len(got) != 1 { … }
//	}
//
// What a handler sees is what a real node gives it: messages of proven senders,
// deadlines and cancellations that cross, commits that are all or nothing,
// signed and linked records, the closed set of errors. What goes wrong in the
// world is a method: Net.Cut, Net.Delay, Net.Crash, Net.Stop, Node.FailCommits, and
// Options for the limits. What the operator does is one too: Node.Block, Node.Allow,
// Node.Limit.
//
// A DNA's init has run when Net.Node returns, or Net.TryNode gives its error.
// Net.Settle waits for the post_commits; Node.Validate asks about an entry of
// another agent.
//
// Nothing waits on the clock but Net.Delay and deadlines, and all of it works
// in a testing/synctest bubble, where both cost no time. When the test ends,
// every call is cancelled and waited for, so that no goroutine is left: a
// handler that ignores its context keeps its test from ending.
//
// What differs from a node: no restart back-off and no pauses between the tries
// of a post_commit, no message is sent twice, and
// a crashed handler's goroutine runs on without effect, since a test can't kill it.
//
// TestHost is the conformance suite of sdk.Host. This package's network and
// real nodes both run it, which is why the one can stand for the other.
package sdktest
