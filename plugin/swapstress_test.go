package plugin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Files come, are replaced, renamed and removed, processes die and are restarted,
// under callers. At the end what runs is what lies in the directory. It runs for
// PARLEY_STRESS, or a moment.
func TestStress(t *testing.T) {
	t.Parallel()
	length, err := time.ParseDuration(os.Getenv("PARLEY_STRESS"))
	if err != nil {
		length = 3 * time.Second
	}
	cfg := Config{Dir: t.TempDir(), StateDir: t.TempDir(), RestartWait: 2 * time.Second,
		policy: func() *restartPolicy { return &restartPolicy{jitter: func() float64 { return -4.9 }} }}
	n := startNode(t, cfg)
	end := make(chan struct{})
	var wg sync.WaitGroup
	var calls, crashed, missing, busy atomic.Int64
	for _, dna := range []string{"alpha", "beta"} {
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
					}
					n.mu.Lock()
					h := n.handlers[dna]
					n.mu.Unlock()
					if h == nil {
						time.Sleep(time.Millisecond)
						continue
					}
					_, err := h.Serve(testContext(t), &testHost{}, call("version", ""))
					calls.Add(1)
					switch code(err) {
					case 0:
						if err != nil {
							t.Errorf("a call: %v", err)
						}
					case sdk.HandlerCrashed:
						crashed.Add(1)
					case sdk.NoHandler:
						missing.Add(1)
						time.Sleep(time.Millisecond)
					case sdk.Busy:
						busy.Add(1)
					default:
						t.Errorf("a call: %v", err)
					}
				}
			})
		}
	}
	kills := int64(0)
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for begun, i := time.Now(), 0; time.Since(begun) < length; i++ {
		dna := []string{"alpha", "beta"}[random.IntN(2)]
		name := fmt.Sprintf("%s.v-%d", dna, random.IntN(3))
		path := filepath.Join(cfg.Dir, name)
		switch random.IntN(12) {
		case 0, 1, 2, 3:
			put(t, cfg.Dir, name, fmt.Sprintf("v%d", i), true)
		case 4:
			put(t, cfg.Dir, name, []string{"dead", "refuses", "drops", "another", "integrity"}[random.IntN(5)]+fmt.Sprint(i), true)
		case 5:
			put(t, cfg.Dir, name, fmt.Sprintf("v%d", i), false)
		case 6, 7:
			_ = os.Remove(path)
		case 8:
			_ = os.Rename(path, filepath.Join(cfg.Dir, fmt.Sprintf("%s.v-%d", dna, random.IntN(3))))
		case 9, 10:
			n.mu.Lock()
			h := n.handlers[dna]
			n.mu.Unlock()
			if h != nil {
				kills++
				_, _ = h.Serve(testContext(t), &testHost{}, call("exit", ""))
			}
		case 11:
			go func() { _ = n.Restart(testContext(t), name) }()
		}
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
	}
	for _, dna := range []string{"alpha", "beta"} {
		for i := range 3 {
			_ = os.Remove(filepath.Join(cfg.Dir, fmt.Sprintf("%s.v-%d", dna, i)))
		}
		put(t, cfg.Dir, dna+".v-9", "final-"+dna, true)
	}
	done := time.Now().Add(60 * time.Second)
	for ok := false; !ok; {
		list := n.Status()
		ok = len(list) == 2
		for _, s := range list {
			ok = ok && s.State == StateRunning && len(s.Draining) == 0 && s.Refused == "" && s.Trying == ""
		}
		for _, s := range list {
			ok = ok && versionNow(n, s.DNA) == "final-"+s.DNA
		}
		if time.Now().After(done) {
			t.Fatalf("status %+v", list)
		}
		time.Sleep(time.Millisecond)
	}
	close(end)
	wg.Wait()
	if crashed.Load() > 3*kills {
		t.Errorf("%d calls crashed, %d processes were killed", crashed.Load(), kills)
	}
	waitFor(t, func() bool {
		e, err := os.ReadDir(filepath.Join(cfg.StateDir, "plugins"))
		return err == nil && len(e) <= 4
	})
	t.Logf("%d calls, %d crashed of %d kills, %d without a handler, %d busy", calls.Load(), crashed.Load(), kills, missing.Load(), busy.Load())
}

// versionNow is the version of a DNA's handler, empty while it has none.
func versionNow(n *testNode, dna string) string {
	n.mu.Lock()
	h := n.handlers[dna]
	n.mu.Unlock()
	if h == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	reply, _ := h.Serve(ctx, &testHost{}, call("version", ""))
	return string(reply)
}
