// Command remote is the handler of TestGrantsOfProcesses, with a function for other
// agents, one that calls it there, and one that grants it, and of
// TestSendManyProcesses.
package main

import (
	"errors"

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

// askIn asks many agents. Each echoes the text.
type askIn struct {
	Agents []sdk.AgentID `json:"agents"`
	First  int           `json:"first"`
	Quorum int           `json:"quorum"`
}

type askOut struct {
	Answers []string `json:"answers"` // of each agent: its answer, or its error's code
	Online  []bool   `json:"online"`  // of each agent, afterwards
	Err     string   `json:"err"`     // of all
}

func askMany(c *sdk.Context, in askIn) (out askOut, err error) {
	answers, err := sdk.SendMany[string](c, in.Agents, "hello", sdk.First(in.First), sdk.Quorum(in.Quorum))
	if err != nil {
		out.Err = err.Error()
	}
	for _, a := range answers {
		text := a.Value
		if e, is := errors.AsType[*sdk.Error](a.Err); is {
			text = e.Code.Name()
		}
		p, err := c.Online(a.Agent)
		if err != nil {
			return out, err
		}
		out.Answers, out.Online = append(out.Answers, text), append(out.Online, p.Online && !p.LastHeard.IsZero())
	}
	return out, nil
}

func main() {
	serve.Main(sdk.Define("remote", "1", sdk.Function("note", note), sdk.Function("note_at", noteAt), sdk.Function("befriend", befriend),
		sdk.Function("ask_many", askMany), sdk.Receive(func(_ *sdk.Context, text string) (string, error) { return text + " yourself", nil })))
}
