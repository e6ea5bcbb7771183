// Package sdk is what the author of a DNA works with.
//
// A DNA is an application between agents. Its program is a handler, which a
// node runs as a process of its own:
//
//	var dna = sdk.Define("hello", "1",
//		sdk.Function("greet", func(c *sdk.Context, to sdk.AgentID) (string, error) {
//			return sdk.Send[string](c, to, "Hello!")
//		}),
//		sdk.Receive(func(c *sdk.Context, text string) (string, error) {
//			_, err := c.Commit("greeting", text)
//			return "Noted, " + c.From().Short(), err
//		}),
//	)
//
//	func main() { serve.Main(dna) } // package sdk/serve
//
// A Function is called by the agent's own clients, Receive by the messages of
// other agents that run the same DNA. The node itself calls Init once, before
// all others, and PostCommit with what became durable; Validate judges entries,
// one's own in Commit and those of others. Within a call, its Context offers
//
//	Send      a message to another agent, and its answer; errors are of a closed set (Error, Code)
//	Commit    an entry for the agent's source chain: all of a call's entries are
//	          appended when it returns without an error, none otherwise
//	Query     records of that chain; QueryAs and All decode them
//	Get       a public entry of any agent's, checked; GetAs decodes it
//	Log       the node's log
//	Grant     functions of this agent's to others, who use CallRemote; Revoke ends that
//	Grants    what was granted; Claims and Delegations likewise
//	Delegate  another agent may act in this one's name; OnBehalfOf and Behalf say for
//	          whom a call is made, proven
//
// and it is a context.Context, which ends at the caller's deadline. Calls run
// concurrently. The handler never sees the agent's secret key: the node signs.
//
// Values travel as msgpack; the table is in payload.go, at Marshal. A command
// line writes them as JSON.
//
// Where to read on:
//
//	define.go, callbacks.go, context.go, get.go   the author's side, all of it
//	errors.go               how a message can end; docs/errors.md has the table
//	grant.go, list.go       who may call what, and what was granted
//	delegation.go, proof.go what a delegation is, to the byte, and the rules for a chain of them
//	receipt.go              what both chains keep of an exchange
//	agent.go, text.go       identifiers and their text form
//	dna.go, record.go       what a DNA and a record of a source chain are, to the byte
//	handler.go              Handler and Host, the contract between node and handler
//	sdk/sdktest             a network of nodes within a test, to test a DNA
//	examples/               hello in 20 lines, a silent auction in 100
package sdk
