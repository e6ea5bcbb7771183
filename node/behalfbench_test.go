package node

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// BenchmarkReceipts is a message, one whose receive commits, one with a receipt on
// both chains, and one on behalf of another agent: one caller, four processes.
//
//	go test ./node -run '^$' -bench Receipts
func BenchmarkReceipts(b *testing.B) {
	plugins, dir := pluginDir(b, "test"), shortTempDir(b)
	bobDir, aliceDir := filepath.Join(dir, "b"), filepath.Join(dir, "a")
	bobLine := startRole(b, "node", bobDir, plugins).line()
	aliceLine := startRole(b, "node", aliceDir, plugins, bobLine).line()
	var clients [2]*control.Client
	var agents [2]sdk.AgentID
	for i, line := range []string{bobLine, aliceLine} {
		p, err := ParsePeer(line)
		if err != nil {
			b.Fatal(err)
		}
		agents[i] = p.Agent
		if clients[i], err = control.Dial([]string{bobDir, aliceDir}[i]); err != nil {
			b.Fatal(err)
		}
	}
	proof := benchCall[sdk.Proof](b, clients[0], "delegate", sdk.Delegation{To: agents[1], Messages: true, Expires: time.Now().Add(time.Hour)})
	for _, c := range []struct {
		name    string
		options testOptions
		commit  bool
	}{{"plain", testOptions{}, false}, {"commit", testOptions{}, true}, {"receipt", testOptions{Receipt: true}, false}, {"behalf", testOptions{Proof: proof}, false}} {
		b.Run(c.name, func(b *testing.B) {
			measure(b, 1, func(_, n int, took []time.Duration) []time.Duration {
				in := testDrive{To: agents[0], N: n, Data: make([]byte, benchPayload), Commit: c.commit, Options: c.options}
				for _, ns := range benchCall[[]int64](b, clients[1], "drive", in) {
					took = append(took, time.Duration(ns))
				}
				return took
			})
		})
	}
}
