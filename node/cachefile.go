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

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

// The cache file holds what the node would otherwise have to find out again:
// where agents are, and the DHT's contacts. It is a msgpack map of cacheContent's
// names. It is not synced, and one that is lost or damaged costs nothing but time.
// Its records were verified when they came, and nobody but the agent can write it.
const (
	cacheFile     = "cache"
	cacheVersion  = 2
	maxCacheFile  = 16 << 20
	cacheInterval = 10 * time.Minute
)

type cacheContent struct {
	Version   int            `codec:"v"`
	DHT       []byte         `codec:"dht"`
	Agents    []cacheAgent   `codec:"agents,omitempty"`    // the last dialled last
	Addresses []cacheAddress `codec:"addresses,omitempty"` // version 1
}

type cacheAgent struct {
	Agent  []byte        `codec:"a"`
	Record []byte        `codec:"r,omitempty"` // docs/wire.md, section 6.1
	Worked []cacheWorked `codec:"w,omitempty"` // the latest first
}

type cacheWorked struct {
	Addr string `codec:"p"`
	Unix int64  `codec:"t"` // when it worked, seconds
}

// cacheAddress is an agent's one address in version 1.
type cacheAddress struct {
	Agent []byte `codec:"a"`
	Addr  string `codec:"p"`
	Unix  int64  `codec:"t"`
}

// parseCache reads a cache file of either version. What makes no sense in it is
// left out.
func parseCache(b []byte) (agents []*knownAgent, dhtSnapshot []byte, err error) {
	if len(b) > maxCacheFile {
		return nil, nil, fmt.Errorf("longer than %d bytes", maxCacheFile)
	}
	var c cacheContent
	if err := sdk.Unmarshal(b, &c); err != nil {
		return nil, nil, err
	}
	switch c.Version {
	case 1:
		for _, a := range c.Addresses {
			c.Agents = append(c.Agents, cacheAgent{Agent: a.Agent, Worked: []cacheWorked{{a.Addr, a.Unix}}})
		}
	case cacheVersion:
	default:
		return nil, nil, fmt.Errorf("version %d, only 1 and %d are known", c.Version, cacheVersion)
	}
	for i := range c.Agents {
		if k := c.Agents[i].known(); k != nil {
			agents = append(agents, k)
		}
	}
	return agents[max(0, len(agents)-maxAddresses):], c.DHT, nil
}

// known is a's content where it is sound; nil where nothing of it is.
func (a *cacheAgent) known() *knownAgent {
	if len(a.Agent) != len(sdk.AgentID{}) {
		return nil
	}
	k := &knownAgent{agent: sdk.AgentID(a.Agent)}
	if a.Record != nil {
		if r, err := dht.ParseRecord(a.Record); err == nil && r.Key == dht.Key(k.agent) {
			k.record = r
		}
	}
	for _, w := range a.Worked {
		addr, err := netip.ParseAddrPort(w.Addr)
		if err == nil && len(k.worked) < maxWorked && w.Unix >= 0 && w.Unix < 1<<40 {
			k.worked = append(k.worked, workedAddr{addr, time.Unix(w.Unix, 0)})
		}
	}
	if k.record == nil && len(k.worked) == 0 {
		return nil
	}
	return k
}

func (n *Node) encodeCache() ([]byte, error) {
	c := cacheContent{Version: cacheVersion, DHT: n.dht.Snapshot()}
	for _, k := range n.addresses.all() {
		a := cacheAgent{Agent: k.agent[:], Record: recordBytes(k.record)}
		for _, w := range k.worked {
			a.Worked = append(a.Worked, cacheWorked{w.addr.String(), w.at.Unix()})
		}
		c.Agents = append(c.Agents, a)
	}
	return sdk.Marshal(c)
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
	agents, snapshot, err := parseCache(b)
	if err != nil {
		return err
	}
	for _, k := range agents {
		n.addresses.restore(k)
	}
	return n.dht.Restore(snapshot)
}

// saveCache replaces the file as a whole; a failure is told and costs nothing else.
func (n *Node) saveCache() {
	if err := n.writeCache(); err != nil {
		n.cfg.Log.Warn("cache not saved", "error", err.Error())
	}
}

func (n *Node) writeCache() error {
	b, err := n.encodeCache()
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
