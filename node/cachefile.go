package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// The cache file holds what the node would otherwise have to find out again:
// addresses that worked, and the DHT's contacts. It is not synced, and one that
// is lost or damaged costs nothing but time.
const (
	cacheFile     = "cache"
	maxCacheFile  = 16 << 20
	cacheInterval = 10 * time.Minute
)

type cacheContent struct {
	Version   int            `codec:"v"`
	DHT       []byte         `codec:"dht"`
	Addresses []cacheAddress `codec:"addresses"`
}

type cacheAddress struct {
	Agent []byte `codec:"a"`
	Addr  string `codec:"p"`
	Unix  int64  `codec:"t"` // when it worked, seconds
}

func (n *Node) loadCache() {
	err := n.readCache()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.cfg.Log.Warn("cache not used: it is made anew", "file", n.cfg.path(cacheFile), "error", err.Error())
	}
}

func (n *Node) readCache() error {
	f, err := os.Open(n.cfg.path(cacheFile))
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCacheFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxCacheFile {
		return fmt.Errorf("longer than %d bytes", maxCacheFile)
	}
	var c cacheContent
	if err := sdk.Unmarshal(b, &c); err != nil {
		return err
	}
	if c.Version != 1 {
		return fmt.Errorf("version %d, only 1 is known", c.Version)
	}
	for _, a := range c.Addresses {
		addr, err := netip.ParseAddrPort(a.Addr)
		if err == nil && len(a.Agent) == 32 {
			n.addresses.worked(time.Unix(a.Unix, 0), sdk.AgentID(a.Agent), addr)
		}
	}
	return n.dht.Restore(c.DHT)
}

// saveCache replaces the file as a whole; a failure is told and costs nothing else.
func (n *Node) saveCache() {
	if err := n.writeCache(); err != nil {
		n.cfg.Log.Warn("cache not saved", "error", err.Error())
	}
}

func (n *Node) writeCache() error {
	c := cacheContent{Version: 1, DHT: n.dht.Snapshot()}
	for _, a := range n.addresses.all() {
		c.Addresses = append(c.Addresses, cacheAddress{Agent: a.agent[:], Addr: a.addr.String(), Unix: a.at.Unix()})
	}
	b, err := sdk.Marshal(c)
	if err != nil {
		return err
	}
	// One name, so that a node that is killed here leaves one file at most.
	path, tmp := n.cfg.path(cacheFile), n.cfg.path("."+cacheFile)
	defer os.Remove(tmp)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (n *Node) keepCache(ctx context.Context) error {
	t := time.NewTicker(cacheInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			n.saveCache()
		case <-ctx.Done():
			return nil
		}
	}
}
