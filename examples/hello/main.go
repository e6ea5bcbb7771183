// Command hello is a whole DNA: agents greet one another and write it down.
package main

import (
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

var dna = sdk.Define("hello", "1",
	sdk.Function("greet", func(c *sdk.Context, to sdk.AgentID) (string, error) {
		return sdk.Send[string](c, to, "Hello!")
	}),
	sdk.Receive(func(c *sdk.Context, text string) (string, error) {
		_, err := c.Commit("greeting", text)
		return "Noted, " + c.From().Short(), err
	}),
)

func main() { serve.Main(dna) }
