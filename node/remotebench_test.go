package node

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// benchRemote asks for N calls of another agent, one after another.
type benchRemote struct {
	To       sdk.AgentID
	N        int
	Function string // empty: plain messages
	Data     []byte
}

func benchRemoteDNA() *sdk.Definition {
	echo := func(_ *sdk.Context, b []byte) ([]byte, error) { return b, nil }
	return sdk.Define("remote", "1", sdk.Function("echo", echo), sdk.Receive(echo),
		sdk.Function("drive", func(c *sdk.Context, in benchRemote) (took []int64, err error) {
			for range in.N {
				began := time.Now()
				if in.Function == "" {
					_, err = sdk.Send[[]byte](c, in.To, in.Data)
				} else {
					_, err = sdk.CallRemote[[]byte](c, in.To, in.Function, in.Data)
				}
				if err != nil {
					return nil, err
				}
				took = append(took, int64(time.Since(began)))
			}
			return took, nil
		}))
}

// BenchmarkRemote is a call of another agent's function next to a plain message,
// between two nodes of this process over a socket, their handlers in this process and
// in processes of their own:
//
//	go test ./node -run '^$' -bench Remote -count 6
//
// assigned: the grantor's node finds the grant. secret: the call brings a claim.
// uses: each use is on disk before the function runs.
func BenchmarkRemote(b *testing.B) {
	b.Run("inside", func(b *testing.B) { benchRemotes(b, "") })
	b.Run("processes", func(b *testing.B) { benchRemotes(b, pluginDir(b, "remote")) })
}

func benchRemotes(b *testing.B, plugins string) {
	dir := shortTempDir(b)
	start := func(name string, first ...Peer) *Node {
		cfg := testConfig()
		cfg.DataDir, cfg.Bootstrap, cfg.PluginDir = filepath.Join(dir, name), first, plugins
		if plugins == "" {
			cfg.Handlers = []sdk.Handler{benchRemoteDNA()}
		}
		n, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		b.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
		if err := n.WaitReady(ctx); err != nil {
			b.Fatal(err)
		}
		return n
	}
	bob := start("b")
	alice := start("a", Peer{Agent: bob.Agent(), Host: bob.Addr().String()})
	for _, way := range []struct {
		name, function string
		grant          *sdk.Grant
	}{
		{name: "send"},
		{"assigned", "echo", &sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice.Agent()}}},
		{"secret", "echo", &sdk.Grant{Kind: sdk.GrantTransferable}},
		{"uses", "echo", &sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice.Agent()}, Uses: 1 << 30}},
	} {
		for _, c := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/c=%d", way.name, c), func(b *testing.B) {
				if way.grant != nil {
					claim, err := bob.AddGrant(b.Context(), "remote", *way.grant)
					if err != nil {
						b.Fatal(err)
					}
					defer func() {
						if err := bob.RevokeGrant(context.Background(), "remote", claim.Grant); err != nil {
							b.Error(err)
						}
					}()
					if !claim.Secret.IsZero() {
						if err := alice.AddClaim(b.Context(), "remote", claim); err != nil {
							b.Fatal(err)
						}
						defer func() {
							_ = alice.RemoveClaim(context.Background(), "remote", claim.Grant) // told of its end, it may be gone
						}()
					}
				}
				measure(b, c, func(_, n int, took []time.Duration) []time.Duration {
					for len(took) < n {
						in, err := sdk.Marshal(benchRemote{bob.Agent(), min(n-len(took), 1000), way.function, make([]byte, benchPayload)})
						if err != nil {
							b.Error(err)
							return took
						}
						out, err := alice.Call(b.Context(), "remote", "drive", in)
						var ns []int64
						if err == nil {
							err = sdk.Unmarshal(out, &ns)
						}
						if err != nil {
							b.Error(err)
							return took
						}
						for _, d := range ns {
							took = append(took, time.Duration(d))
						}
					}
					return took
				})
			})
		}
	}
}
