package node

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// Two bootstrap nodes whose settings name each other, as each one of a list of
// bootstrap nodes does that all nodes share.
func TestBootstrapsOfEachOther(t *testing.T) {
	dir := shortTempDir(t)
	var nodes []*Node
	var cfgs []Config
	for _, name := range []string{"a", "b", "c"} {
		cfg := testConfig()
		cfg.DataDir, cfg.Listen = filepath.Join(dir, name), closedPort(t).String()
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfgs = append(cfgs, cfg)
		nodes = append(nodes, n)
	}
	var list []Peer
	for i := range 2 {
		list = append(list, Peer{Agent: nodes[i].Agent(), Host: cfgs[i].Listen})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for i := range nodes {
		cfgs[i].Bootstrap = list
		n, err := New(cfgs[i])
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
		go func() { ended <- n.Run(ctx) }()
	}
	wait, stop := context.WithTimeout(ctx, 45*time.Second)
	defer stop()
	for i, n := range nodes {
		if err := n.WaitReady(wait); err != nil {
			t.Errorf("node %d: %v, %+v", i, err, n.dht.Stats())
		}
	}
	cancel()
	for range nodes {
		<-ended
	}
}
