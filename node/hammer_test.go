package node

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
)

var hammerTime = flag.Duration("hammer", 3*time.Second, "how long TestHammer swaps handlers under load")

// hammerBid is one call of the hammer: it is committed on both sides, once.
type hammerBid struct {
	To sdk.AgentID
	ID uint64
}

// hammerDNA sends each bid on, and every third one leads back to its sender's DNA.
func hammerDNA(version string) *sdk.Definition {
	switch strings.TrimRight(version, "0123456789") {
	case "dead":
		os.Exit(5)
	case "silent":
		select {}
	case "less":
		return sdk.Define("hammer", "1", sdk.Receive(func(*sdk.Context, hammerBid) (string, error) { return "", nil }))
	case "other":
		return sdk.Define("other", "1")
	}
	return sdk.Define("hammer", "1",
		sdk.Function("bid", func(c *sdk.Context, in hammerBid) (string, error) {
			there, err := sdk.Send[string](c, in.To, in)
			if err != nil {
				return "", err
			}
			_, err = c.Commit("asked", in.ID)
			return version + " " + there, err
		}),
		sdk.Receive(func(c *sdk.Context, in hammerBid) (string, error) {
			if in.To != c.Agent() { // the question that leads back
				return version, nil
			}
			if in.ID%3 == 0 {
				if _, err := sdk.Send[string](c, c.From(), in); err != nil {
					return "", err
				}
			}
			_, err := c.Commit("note", in.ID)
			return version, err
		}))
}

// hammerCall is what became of a call.
type hammerCall struct {
	id    uint64
	node  int
	begun time.Time
	took  time.Duration
	reply string
	err   error
}

// TestHammer: two nodes, callers on both, a swap on one of them at most every
// half a second, with binaries between that are no good. No call is lost, repeated or
// failed; the chains tell. go test ./node -run Hammer -hammer=10m -v
func TestHammer(t *testing.T) {
	h := &hammer{t: t, kinds: map[string]int{}, news: make(chan struct{}, 1)}
	w := newTestNetwork(t, nil)
	w.base.Limits.HandlerStartTimeout = 5 * time.Second // for the silent one
	for i := range h.dirs {
		h.dirs[i] = t.TempDir()
		h.put(i, "v0")
		w.base.PluginDir = h.dirs[i]
		h.nodes[i] = w.start(fmt.Sprintf("node%d", i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var watchers, callers sync.WaitGroup
	for i := range h.nodes {
		watchers.Go(func() { _ = h.nodes[i].PluginEvents(ctx, control.EventQuery{Follow: true}, h.event) })
	}
	end := time.Now().Add(*hammerTime)
	for i := range h.nodes {
		for c := range 4 {
			callers.Go(func() { h.call(i, uint64(i)<<48|uint64(c)<<40, end) })
		}
	}
	swaps := h.swap(end)
	callers.Wait()
	cancel()
	watchers.Wait()
	h.check(swaps)
}

type hammer struct {
	t     *testing.T
	nodes [2]*testNode
	dirs  [2]string

	mu    sync.Mutex
	calls []hammerCall
	flips []time.Time
	kinds map[string]int // events
	news  chan struct{}  // holds one when there was an event
}

// put puts a version into a node's directory.
func (h *hammer) put(node int, version string) {
	h.t.Helper()
	dir := pluginDir(h.t, "hammer/"+version)
	if err := os.Rename(filepath.Join(dir, "hammer"), filepath.Join(h.dirs[node], "hammer")); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hammer) event(e control.PluginEvent) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds[e.Kind]++
	select {
	case h.news <- struct{}{}:
	default:
	}
	if e.Kind == string(plugin.EventSwapped) {
		h.flips = append(h.flips, e.Time)
	}
	return nil
}

// call calls until end.
func (h *hammer) call(node int, id uint64, end time.Time) {
	to := h.nodes[1-node].Agent()
	var list []hammerCall
	for time.Now().Before(end) {
		id++
		c := hammerCall{id: id, node: node, begun: time.Now()}
		payload, err := sdk.Marshal(hammerBid{To: to, ID: id})
		if err != nil {
			h.t.Error(err)
			return
		}
		reply, err := h.nodes[node].Call(context.Background(), "bid", payload)
		if c.took, c.err = time.Since(c.begun), err; err == nil {
			c.err = sdk.Unmarshal(reply, &c.reply)
		}
		list = append(list, c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, list...)
}

// swap puts new versions, good and bad ones, until end: a node's next one when its
// last one runs or was rejected, and half a second has passed.
func (h *hammer) swap(end time.Time) (good int) {
	bad := []string{"dead", "less", "other", "silent"}
	for i := 0; time.Now().Before(end); i++ {
		version := fmt.Sprintf("v%d", i+1)
		if i%4 == 3 {
			version = bad[i/4%len(bad)] + fmt.Sprint(i) // a new hash each time
		} else {
			good++
		}
		pause := time.After(500 * time.Millisecond) // the load's, not waited for by anything
		before := h.settled()
		h.put(i%2, version)
		for h.settled() == before {
			select {
			case <-h.news:
			case <-h.t.Context().Done():
				return good
			}
		}
		<-pause
	}
	return good
}

// settled counts the binaries that were taken or rejected.
func (h *hammer) settled() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kinds[string(plugin.EventSwapped)] + h.kinds[string(plugin.EventRejected)]
}

// check compares what the callers were told with what the chains hold.
func (h *hammer) check(swaps int) {
	t := h.t
	counts := [2]map[string]map[uint64]int{}
	for i, n := range h.nodes {
		counts[i] = map[string]map[uint64]int{"asked": {}, "note": {}}
		for from := uint64(0); ; {
			page, err := n.Chain(t.Context(), "hammer", sdk.Query{From: from, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				from = r.Header.Seq + 1
				if ids := counts[i][r.Header.EntryType]; ids != nil {
					var id uint64
					if err := sdk.Unmarshal(r.Content, &id); err != nil {
						t.Fatal(err)
					}
					ids[id]++
				}
			}
		}
		if v, err := n.VerifyChain(t.Context(), "hammer"); err != nil || !v.Valid {
			t.Errorf("chain of node %d: %+v, %v", i, v, err)
		}
	}
	lost, repeated, failed := 0, 0, 0
	versions := map[string]int{}
	for _, c := range h.calls {
		here, there := counts[c.node]["asked"][c.id], counts[1-c.node]["note"][c.id]
		switch {
		case c.err != nil:
			failed++
			t.Errorf("call %x after %s: %v; %d records here, %d there", c.id, c.took, c.err, here, there)
		case here < 1 || there < 1:
			lost++
		}
		if here > 1 || there > 1 {
			repeated++
		}
		versions[c.reply]++
	}
	delayed, report := h.delays()
	t.Logf("%d calls by %d pairs of versions, %d good swaps asked for, events %v", len(h.calls), len(versions), swaps, h.kinds)
	t.Logf("%d lost, %d repeated, %d failed, %d delayed; %s", lost, repeated, failed, delayed, report)
	if lost+repeated+failed > 0 || len(h.calls) == 0 || len(h.flips) == 0 || h.kinds["died"]+h.kinds["failed"]+h.kinds["rolled back"] > 0 {
		t.Error("a swap was felt")
	}
}

// delays compares the calls that overlap the change from one process to the other
// with the rest. It is a report: what else the machine does is in it.
func (h *hammer) delays() (delayed int, report string) {
	const around = 20 * time.Millisecond
	var near, far []time.Duration
	for _, c := range h.calls {
		end := c.begun.Add(c.took)
		if slices.ContainsFunc(h.flips, func(f time.Time) bool { return c.begun.Before(f.Add(around)) && end.After(f.Add(-around)) }) {
			near = append(near, c.took)
		} else {
			far = append(far, c.took)
		}
	}
	slices.Sort(near)
	slices.Sort(far)
	quantile := func(d []time.Duration, q float64) time.Duration {
		if len(d) == 0 {
			return 0
		}
		return d[min(int(q*float64(len(d))), len(d)-1)].Round(time.Microsecond)
	}
	for _, d := range near {
		if d > quantile(far, 0.999)+50*time.Millisecond {
			delayed++
		}
	}
	return delayed, fmt.Sprintf("p50, p99, max while a process takes over: %s, %s, %s (%d calls); else: %s, %s, %s",
		quantile(near, .5), quantile(near, .99), quantile(near, 1), len(near), quantile(far, .5), quantile(far, .99), quantile(far, 1))
}
