// Command board is the handler of TestDHTGet: a post is public, its draft private.
package main

import (
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

func post(c *sdk.Context, text string) (sdk.Hash, error) {
	if _, err := c.Commit("draft", text); err != nil {
		return sdk.Hash{}, err
	}
	return c.Commit("note", text, sdk.AsPublic)
}

func main() { serve.Main(sdk.Define("board", "1", sdk.Function("post", post))) }
