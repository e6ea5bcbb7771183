package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
)

func awaitPosted(t *testing.T, d callbackFiles, want ...string) {
	t.Helper()
	await(t, func() bool { return len(d.lines("posted")) >= len(want) })
	if got := d.lines("posted"); !slices.Equal(got, want) {
		t.Fatalf("post_commit heard of %q, want %q", got, want)
	}
}

// The records of each call come together and in order, the node's own do not,
// and what was confirmed does not come again after a stop.
func TestPostCommit(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		n := startNode(t, cfg)
		for _, texts := range [][]string{{"a", "b"}, {"c"}, {"not valid"}, {"d"}} {
			if err := commitNotes(t, n.Node, texts...); (err == nil) != (texts[0] != "not valid") {
				t.Fatal(err)
			}
		}
		want := []string{"1 hello", "3 a 4 b", "5 c", "6 d"}
		awaitPosted(t, d, want...)
		await(t, func() bool { seq, _ := n.apps.all()[0].chain.Posted(); return seq == 6 })
		n.stop()
		n = startNode(t, cfg)
		if err := commitNotes(t, n.Node, "e"); err != nil {
			t.Fatal(err)
		}
		awaitPosted(t, d, append(want, "7 e")...)
	})
}

// The commit is not held up by its post_commit, nor the node's end.
func TestPostCommitIsNotWaitedFor(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		d.set(t, "post", "wait")
		n := startNode(t, cfg)
		awaitFile(t, filepath.Join(string(d), "post.waits"))
		for _, text := range []string{"a", "b"} {
			if err := commitNotes(t, n.Node, text); err != nil {
				t.Fatal(err)
			}
		}
		awaitPosted(t, d, "1 hello")
		n.stop()
		d.set(t, "post", "")
		startNode(t, cfg)
		awaitPosted(t, d, "1 hello", "1 hello", "3 a", "4 b")
	})
}

// The handler's process dies in its post_commit: the records come again.
func TestPostCommitAfterTheHandlerWasKilled(t *testing.T) {
	t.Parallel()
	d := callbackFiles(t.TempDir())
	cfg := testConfig()
	cfg.DataDir, cfg.PluginDir = filepath.Join(shortTempDir(t), "n"), pluginDir(t, "callbacks")
	cfg.DNAs = map[string]DNASettings{"callbacks": {Properties: callbackProperties(string(d))}}
	cfg.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
	d.set(t, "post", "wait")
	n := startNode(t, cfg)
	awaitFile(t, filepath.Join(string(d), "post.waits"))
	if err := commitNotes(t, n.Node, "a"); err != nil {
		t.Fatal(err)
	}
	d.set(t, "post", "")
	n.Crash()
	awaitPosted(t, d, "1 hello", "1 hello", "3 a")
}

// The node is killed, with its handler, in a post_commit: the records since the
// last one that it knows to be confirmed come again, and none is missing.
func TestPostCommitAfterTheNodeWasKilled(t *testing.T) {
	t.Parallel()
	d := callbackFiles(t.TempDir())
	plugins := pluginDir(t, "callbacks")
	c := startChild(t, filepath.Join(shortTempDir(t), "n"), plugins, "-callbacks", string(d))
	if err := commitNotes(t, c.control, "a"); err != nil {
		t.Fatal(err)
	}
	awaitPosted(t, d, "1 hello", "3 a")
	d.set(t, "post", "wait")
	for _, text := range []string{"b", "c"} {
		if err := commitNotes(t, c.control, text); err != nil {
			t.Fatal(err)
		}
	}
	awaitFile(t, filepath.Join(string(d), "post.waits"))
	pid := c.handlerPID()
	c.kill()
	await(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	d.set(t, "post", "")
	before := len(d.lines("posted"))
	c.start("-callbacks", string(d))
	await(t, func() bool { l := d.lines("posted"); return len(l) > before && l[len(l)-1] == "5 c" })
	again := d.lines("posted")[before:]
	all := []string{"1 hello", "3 a", "4 b", "5 c"}
	if !slices.Equal(again, all[len(all)-len(again):]) || len(again) < 2 {
		t.Errorf("after the kill it heard of %q", again)
	}
	if got := d.lines("inits"); len(got) != 1 {
		t.Errorf("init ran %d times", len(got))
	}
}

// postApp is an app with a poster and nothing around it, in a bubble.
func postApp(t *testing.T, serve func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error)) (*Node, *app) {
	t.Helper()
	cfg := testConfig()
	cfg.DataDir, cfg.MaxPayload = t.TempDir(), 1000
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(n.cfg.path("chains"), 0o700); err != nil {
		t.Fatal(err)
	}
	openAgency(t, n)
	a, err := n.newApp(sdk.Description{Name: "raw", Integrity: "1", Functions: []string{"f"}, PostCommit: true})
	if err != nil {
		t.Fatal(err)
	}
	a.handler = rawHandler{serve}
	if err := n.admit(t.Context(), a, a.handler, &a.desc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	})
	return n, a
}

// post makes a call that commits.
func post(t *testing.T, n *Node, a *app, entries ...sdk.Entry) {
	t.Helper()
	call := &sdk.Call{Kind: sdk.CallFunction, Function: "f", ID: newMessageID(), From: n.id.agent}
	lc := &liveCall{node: n, app: a, call: call}
	if _, err := n.settle(t.Context(), a, lc, entries, nil); err != nil {
		t.Fatal(err)
	}
}

func TestPostCommitFails(t *testing.T) {
	down := &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo}
	for name, c := range map[string]struct {
		errs  []error // of the first calls
		calls int
		took  time.Duration
	}{
		"once":                     {[]error{errors.New("no")}, 2, 100 * time.Millisecond},
		"nearly too often":         {slices.Repeat([]error{errors.New("no")}, 4), 5, 1500 * time.Millisecond},
		"too often":                {slices.Repeat([]error{errors.New("no")}, 99), 5, 1500 * time.Millisecond},
		"the handler is not there": {slices.Repeat([]error{down}, 12), 13, 0},
		"it sends to nobody":       {slices.Repeat([]error{&sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo}}, 99), 5, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var first, second atomic.Int32
				n, a := postApp(t, func(_ context.Context, _ sdk.Host, call *sdk.Call) ([]byte, error) {
					if call.Records[0].Header.Seq == 2 {
						second.Add(1)
						return nil, nil
					}
					if i := int(first.Add(1)); i <= len(c.errs) {
						return nil, c.errs[i-1]
					}
					return nil, nil
				})
				began := time.Now()
				post(t, n, a, sdk.Entry{Type: "a"})
				post(t, n, a, sdk.Entry{Type: "b"})
				for second.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				took := time.Since(began).Truncate(10 * time.Millisecond)
				if int(first.Load()) != c.calls || second.Load() != 1 || c.took != 0 && took != c.took {
					t.Errorf("%d calls for the first record in %s, %d for the second", first.Load(), took, second.Load())
				}
				if seq, _ := a.chain.Posted(); seq < 1 {
					t.Errorf("confirmed up to %d", seq)
				}
			})
		})
	}
}

func TestPostCommitBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		n, a := postApp(t, func(_ context.Context, _ sdk.Host, call *sdk.Call) ([]byte, error) {
			var line []string
			bytes := 0
			for _, r := range call.Records {
				size := len(r.Content)
				if r.Content == nil {
					size = -1
				}
				bytes += size
				line = append(line, fmt.Sprintf("%d:%d", r.Header.Seq, size))
			}
			if len(call.Records) > sdk.MaxPostCommitRecords || bytes > 1000 {
				t.Errorf("%d records of %d bytes", len(call.Records), bytes)
			}
			if len(line) > 4 {
				line = []string{line[0], "...", line[len(line)-1]}
			}
			calls = append(calls, strings.Join(line, " "))
			return nil, nil
		})
		size := func(n int) sdk.Entry { return sdk.Entry{Type: "a", Content: make([]byte, n)} }
		post(t, n, a, size(100), size(600), size(600), size(2000), size(0)) // 1 to 5
		post(t, n, a, size(1))                                              // 6
		post(t, n, a, size(1))                                              // 7
		post(t, n, a, slices.Repeat([]sdk.Entry{size(0)}, 10)...)           // 8 to 17
		synctest.Wait()
		want := []string{"1:100", "2:600", "3:600", "4:-1", "5:0", "6:1", "7:1", "8:0 9:0 10:0", "11:0 12:0 13:0", "14:0 15:0 16:0", "17:0"}
		if got := calls; strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// A post_commit that always commits is slowed down, and others' records still come.
func TestPostCommitEchoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, others atomic.Int32
		n, a := postApp(t, func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
			calls.Add(1)
			if call.Records[0].Header.Cause.Kind == sdk.CallFunction {
				others.Add(1)
			}
			_, err := host.Commit(ctx, sdk.Entry{Type: "echo"})
			return nil, err
		})
		post(t, n, a, sdk.Entry{Type: "a"})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := calls.Load(); n < 10 || n > 25 {
			t.Errorf("%d calls within 10 s", n)
		}
		post(t, n, a, sdk.Entry{Type: "a"})
		time.Sleep(3 * time.Second)
		if others.Load() != 2 {
			t.Errorf("it heard of %d calls", others.Load())
		}
	})
}

// A post_commit that commits only once for each call is not.
func TestPostCommitMayCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a := postApp(t, func(ctx context.Context, host sdk.Host, call *sdk.Call) (_ []byte, err error) {
			if call.Records[0].Header.Cause.Kind == sdk.CallFunction {
				_, err = host.Commit(ctx, sdk.Entry{Type: "done"})
			}
			return nil, err
		})
		began := time.Now()
		for range 200 {
			post(t, n, a, sdk.Entry{Type: "a"})
		}
		synctest.Wait()
		if seq, _ := a.chain.Posted(); seq != 400 || time.Since(began) != 0 {
			t.Errorf("confirmed up to %d of 400 after %s", seq, time.Since(began))
		}
	})
}

func TestNoPosterWithoutAPostCommit(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	a := w.start("alice").apps.all()[0]
	if _, begun := a.chain.Posted(); begun || a.poster.Load() != nil {
		t.Error("a DNA without a post_commit has a poster")
	}
}

// announcing is a handler whose description changes, as by a swap.
type announcing struct {
	sdk.Handler
	desc  atomic.Pointer[sdk.Description]
	asked atomic.Int32
}

func (h *announcing) Description() sdk.Description {
	h.asked.Add(1)
	return *h.desc.Load()
}

// A version that has a post_commit hears at once of what was committed while one
// without it ran.
func TestPostCommitAfterSwap(t *testing.T) {
	t.Parallel()
	d := callbackFiles(t.TempDir())
	h := &announcing{Handler: callbackDNA()}
	desc, err := h.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	without := desc
	without.PostCommit = false
	h.desc.Store(&desc)
	cfg := testConfig()
	cfg.DataDir = filepath.Join(shortTempDir(t), "n")
	cfg.DNAs = map[string]DNASettings{"callbacks": {Properties: callbackProperties(string(d))}}
	cfg.Handlers = []sdk.Handler{h}
	n := startNode(t, cfg)
	awaitPosted(t, d, "1 hello")
	h.desc.Store(&without)
	if err := commitNotes(t, n.Node, "a"); err != nil {
		t.Fatal(err)
	}
	a := n.apps.all()[0]
	await(t, func() bool { return len(a.poster.Load().wake) == 0 })
	asked := h.asked.Load()
	a.poster.Load().grown()
	await(t, func() bool { return h.asked.Load() > asked }) // it waits again
	h.desc.Store(&desc)
	n.pluginEvent(plugin.Event{Kind: plugin.EventSwapped, DNA: "callbacks"})
	awaitPosted(t, d, "1 hello", "3 a")
}
