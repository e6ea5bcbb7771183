package node

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// childNode is a node that is a process of its own, with a handler process, and
// that can be killed and started again on the same data directory.
type childNode struct {
	t       *testing.T
	dir     string
	plugins string
	*role
	peer    Peer // where it listens, whatever it advertises
	control *control.Client
}

func startChild(t *testing.T, dir, plugins string, args ...string) *childNode {
	t.Helper()
	c := &childNode{t: t, dir: dir, plugins: plugins}
	c.start(args...)
	return c
}

// start starts the process: flags of nodeRole first, then bootstrap nodes.
func (c *childNode) start(flags ...string) {
	c.t.Helper()
	c.role = startRole(c.t, "node", append(flags, c.dir, c.plugins)...)
	var err error
	if c.peer, err = ParsePeer(c.line()); err != nil {
		c.t.Fatal(err)
	}
	if c.control, err = control.Dial(c.dir); err != nil {
		c.t.Fatal(err)
	}
}

// call calls a function of the test DNA through the control socket.
func (c *childNode) call(function string, in any) (out testMessage, err error) {
	c.t.Helper()
	payload, err := sdk.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 50*time.Second)
	defer cancel()
	reply, err := c.control.Call(ctx, "test", function, payload)
	if err != nil {
		return out, err
	}
	return out, sdk.Unmarshal(reply, &out)
}

// notes are the texts of the "note" entries on its chain, which must verify.
func (c *childNode) notes() []string {
	c.t.Helper()
	return notesOf(c.t, c.control, "test")
}

// behindProxy starts Bob as a process behind a proxy, and Alice, who knows Bob
// by the proxy's address, in this process.
func behindProxy(t *testing.T) (alice *testNode, bob *childNode, p *proxy) {
	t.Helper()
	p = newProxy(t)
	dir := shortTempDir(t)
	bob = startChild(t, filepath.Join(dir, "bob"), pluginDir(t, "test"), "-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	cfg := testConfig()
	cfg.ResendFor = time.Minute // a restart on a loaded machine takes a while
	cfg.Handlers = []sdk.Handler{testDNA()}
	cfg.Listen = "" // so that the proxy is the only way
	cfg.DataDir, cfg.Bootstrap = filepath.Join(dir, "alice"), []Peer{{Agent: bob.peer.Agent, Host: p.addr().String()}}
	return startNode(t, cfg), bob, p
}
