package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// TestSendManyProcesses: an answer of each agent, of one too that is not there; first
// n, a quorum that is reached and one that is not; who is online afterwards.
func TestSendManyProcesses(t *testing.T) {
	t.Parallel()
	plugins := remotePlugins(t)
	bob := startNode(t, newData(t, ""), "--plugins", plugins)
	carol := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	alice := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	gone := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	gone.stop()
	const there = "hello yourself"
	for _, c := range []struct {
		first, quorum int
		fails         bool
	}{{}, {quorum: 2}, {quorum: 3, fails: true}, {first: 2, quorum: 2}} {
		in, err := json.Marshal(map[string]any{"agents": []sdk.AgentID{bob.agent(), gone.agent(), carol.agent()}, "first": c.first, "quorum": c.quorum})
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Answers []string
			Online  []bool
			Err     string
		}
		text := runParley(t, "call", "--data", alice.data, "remote", "ask_many", string(in)).ok(t)
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		what := fmt.Sprintf("first %d, quorum %d: %+v", c.first, c.quorum, out)
		if (out.Err != "") != c.fails || c.fails && !strings.Contains(out.Err, "3 were asked for") {
			t.Error(what)
		}
		if len(out.Answers) != 3 || out.Answers[1] == there || !c.fails && (out.Answers[0] != there || out.Answers[2] != there) {
			t.Fatal(what)
		}
		if !c.fails && !slices.Equal(out.Online, []bool{true, false, true}) {
			t.Error(what)
		}
	}
}
