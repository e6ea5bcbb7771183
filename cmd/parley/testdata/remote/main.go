// Command remote is the handler of TestGrantsOfProcesses: a function for other agents,
// one that calls it there, and one that grants it.
package main

import (
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// note writes a text down, and tells who has called it.
func note(c *sdk.Context, text string) (sdk.AgentID, error) {
	_, err := c.Commit("note", text)
	return c.From(), err
}

func noteAt(c *sdk.Context, to sdk.AgentID) (sdk.AgentID, error) {
	return sdk.CallRemote[sdk.AgentID](c, to, "note", "I was here")
}

func befriend(c *sdk.Context, friend sdk.AgentID) (sdk.Hash, error) {
	claim, err := c.Grant(sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{friend}, Functions: []string{"note"}})
	return claim.Grant, err
}

func main() {
	serve.Main(sdk.Define("remote", "1", sdk.Function("note", note), sdk.Function("note_at", noteAt), sdk.Function("befriend", befriend)))
}
