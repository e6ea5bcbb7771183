package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// both runs a test with a handler in this process and with one of its own.
func both(t *testing.T, test func(t *testing.T, cfg Config, d callbackFiles)) {
	t.Parallel()
	for _, inProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("in process %t", inProcess), func(t *testing.T) {
			t.Parallel()
			d := callbackFiles(t.TempDir())
			cfg := testConfig()
			cfg.DataDir = filepath.Join(shortTempDir(t), "n")
			cfg.DNAs = map[string]DNASettings{"callbacks": {Properties: callbackProperties(string(d))}}
			if inProcess {
				cfg.Handlers = []sdk.Handler{callbackDNA()}
			} else {
				cfg.PluginDir, cfg.handlerEnv = pluginDir(t, "callbacks"), []string{"GORACE=atexit_sleep_ms=0"}
			}
			test(t, cfg, d)
		})
	}
}

func commitNotes(t *testing.T, n control.Node, texts ...string) error {
	t.Helper()
	payload, err := sdk.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	_, err = n.Call(ctx, "callbacks", "commit", payload)
	return err
}

// types are those of the records behind the genesis record of a chain that
// must verify.
func types(t *testing.T, n control.Node) []string {
	t.Helper()
	r, err := n.VerifyChain(t.Context(), "callbacks")
	if err != nil || !r.Valid {
		t.Fatalf("the chain does not verify: %+v, %v", r, err)
	}
	rs, err := n.Chain(t.Context(), "callbacks", sdk.Query{From: 1})
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, r := range rs {
		out = append(out, r.Header.EntryType)
	}
	return out
}

func wantTypes(t *testing.T, n control.Node, want ...string) {
	t.Helper()
	if got := types(t, n); !slices.Equal(got, want) {
		t.Fatalf("the chain holds %q, want %q", got, want)
	}
}

func TestInitOnce(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		for range 2 {
			n := startNode(t, cfg)
			wantTypes(t, n.Node, "born", "parley.init")
			rs, err := n.Chain(t.Context(), "callbacks", sdk.Query{From: 1})
			if err != nil || rs[0].Header.Cause.Kind != sdk.CallInit || rs[0].Header.Cause != rs[1].Header.Cause || rs[0].Header.Cause.From != n.Agent() {
				t.Errorf("%+v, %v", rs, err)
			}
			n.stop()
		}
		if got := d.lines("inits"); len(got) != 1 {
			t.Errorf("init ran %d times", len(got))
		}
	})
}

func wantRejected(t *testing.T, n *testNode, why string) {
	t.Helper()
	s, err := n.Status(t.Context())
	if err != nil || len(s.Handlers) != 0 || len(s.Rejected) != 1 || !strings.Contains(s.Rejected[0].Reason, why) {
		t.Errorf("%+v, %+v, %v; want %q", s.Handlers, s.Rejected, err, why)
	}
}

// Two processes of a DNA that start at once, a swap and a restart, run one init.
func TestInitOnceForTwoProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.DataDir = t.TempDir()
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(n.cfg.path("chains"), 0o700); err != nil {
			t.Fatal(err)
		}
		openAgency(t, n)
		a, err := n.newApp(sdk.Description{Name: "raw", Integrity: "1", Init: true})
		if err != nil {
			t.Fatal(err)
		}
		defer a.stop()
		runs, goOn, done := 0, make(chan struct{}), make(chan error, 2)
		h := rawHandler{func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) { runs++; <-goOn; return nil, nil }}
		ctx, cancel := context.WithCancel(t.Context())
		for _, ctx := range []context.Context{t.Context(), t.Context(), ctx} {
			go func() { done <- n.prepare(ctx, a, h, &a.desc) }()
			synctest.Wait()
		}
		cancel() // who only waits for the first
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
		close(goOn)
		if err := errors.Join(<-done, <-done); err != nil || runs != 1 {
			t.Errorf("init ran %d times, %v", runs, err)
		}
		if r, err := a.chain.Query(sdk.Query{Type: "parley.init"}); err != nil || len(r) != 1 {
			t.Errorf("%d marks, %v", len(r), err)
		}
	})
}

// An init that fails, or dies, leaves nothing, and is tried again.
func TestInitFails(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		ways := []string{"fail", "exit"}
		if cfg.PluginDir == "" {
			ways = ways[:1]
		}
		for _, way := range ways {
			d.set(t, "init", way)
			n := startNode(t, cfg)
			if err := commitNotes(t, n.Node, "x"); !errors.Is(err, sdk.NoHandler) {
				t.Errorf("%s: a function was called: %v", way, err)
			}
			if cfg.PluginDir != "" {
				wantRejected(t, n, "init of DNA callbacks")
			}
			n.stop()
			d.set(t, "init", "")
		}
		n := startNode(t, cfg)
		wantTypes(t, n.Node, "born", "parley.init")
		if got := d.lines("inits"); len(got) != len(ways)+1 {
			t.Errorf("init ran %d times", len(got))
		}
	})
}

func TestInitTakesTooLong(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		d.set(t, "init", "wait")
		cfg.Limits.HandlerInitTimeout = 200 * time.Millisecond
		n := startNode(t, cfg)
		if err := commitNotes(t, n.Node, "x"); !errors.Is(err, sdk.NoHandler) {
			t.Errorf("a function was called: %v", err)
		}
		if cfg.PluginDir != "" {
			wantRejected(t, n, "handler-init-timeout")
		}
		n.stop()
		d.set(t, "init", "")
		cfg.Limits.HandlerInitTimeout = 0
		wantTypes(t, startNode(t, cfg).Node, "born", "parley.init")
	})
}

// A node that stops does not wait for an init, and one that is killed leaves no
// half of one.
func TestInitInterrupted(t *testing.T) {
	t.Parallel()
	d, dir := callbackFiles(t.TempDir()), filepath.Join(shortTempDir(t), "n")
	plugins := pluginDir(t, "callbacks")
	d.set(t, "init", "wait")
	for _, end := range []func(*role){(*role).kill, (*role).stop} {
		r := startRole(t, "node", "-callbacks", string(d), dir, plugins)
		awaitFile(t, filepath.Join(string(d), "init.waits"))
		end(r)
		d.set(t, "init.waits", "")
	}
	d.set(t, "init", "")
	c := startChild(t, dir, plugins, "-callbacks", string(d))
	wantTypes(t, c.control, "born", "parley.init")
	c.kill()
	c.start("-callbacks", string(d))
	wantTypes(t, c.control, "born", "parley.init")
	if got := d.lines("inits"); len(got) != 3 {
		t.Errorf("init ran %d times", len(got))
	}
}

// A DNA gets its init after its chain has records.
func TestInitOfAnOlderChain(t *testing.T) {
	t.Parallel()
	commit := sdk.Function("commit", func(c *sdk.Context, texts []string) (sdk.None, error) {
		_, err := c.Commit("note", texts[0])
		return sdk.None{}, err
	})
	cfg := testConfig()
	cfg.DataDir, cfg.Handlers = filepath.Join(shortTempDir(t), "n"), []sdk.Handler{sdk.Define("callbacks", "1", commit)}
	n := startNode(t, cfg)
	if err := commitNotes(t, n.Node, "old"); err != nil {
		t.Fatal(err)
	}
	n.stop()
	var told []uint64
	heard := make(chan struct{})
	post := sdk.PostCommit(func(_ *sdk.Context, rs []sdk.Record) error {
		for _, r := range rs {
			told = append(told, r.Header.Seq)
		}
		if len(told) == 2 {
			close(heard)
		}
		return nil
	})
	born := sdk.Init(func(c *sdk.Context) error {
		old, err := c.Query(sdk.Query{Type: "note"})
		if err == nil {
			_, err = c.Commit("born", len(old))
		}
		return err
	})
	cfg.Handlers = []sdk.Handler{sdk.Define("callbacks", "1", commit, born, post)}
	n = startNode(t, cfg)
	wantTypes(t, n.Node, "note", "born", "parley.init")
	if err := commitNotes(t, n.Node, "new"); err != nil {
		t.Fatal(err)
	}
	<-heard
	if !slices.Equal(told, []uint64{2, 4}) { // neither what was before it, nor the mark
		t.Errorf("post_commit heard of %d", told)
	}
}

// Messages that arrive while init runs are refused at once, those that it causes
// itself too; clients wait.
func TestMessagesDuringInit(t *testing.T) {
	t.Parallel()
	type heard struct{ self, back, other error }
	runs := make(chan heard, 1)
	var bob sdk.AgentID
	goOn := make(chan struct{})
	dna := func(init ...sdk.Part) *sdk.Definition {
		return sdk.Define("talk", "1", append(init,
			sdk.Function("echo", func(_ *sdk.Context, s string) (string, error) { return s, nil }),
			sdk.Receive(func(c *sdk.Context, back bool) (string, error) {
				if !back {
					return "here", nil
				}
				return sdk.Send[string](c, c.From(), false)
			}))...)
	}
	w := newTestNetwork(t, func() *sdk.Definition { return dna() })
	bob = w.start("bob").Agent()
	w.handler = nil
	w.base.Handlers = []sdk.Handler{dna(sdk.Init(func(c *sdk.Context) error {
		var h heard
		_, h.self = sdk.Send[string](c, c.Agent(), false)
		_, h.back = sdk.Send[string](c, bob, true)
		_, h.other = sdk.Send[string](c, bob, false)
		runs <- h
		<-goOn
		return nil
	}))}
	called := make(chan error, 1)
	cfg := w.base
	cfg.DataDir, cfg.Bootstrap = filepath.Join(w.dir, "alice"), w.first
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	h := <-runs
	if !errors.Is(h.self, sdk.Busy) || h.other != nil {
		t.Errorf("to itself: %v; to another: %v", h.self, h.other)
	}
	var e *sdk.Error
	if !errors.As(h.back, &e) || e.HandlerCode != sdk.Busy.Name() {
		t.Errorf("back from another: %v", h.back)
	}
	payload, err := sdk.Marshal("x")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, err := n.Call(t.Context(), "talk", "echo", payload); called <- err }()
	close(goOn)
	if err := <-called; err != nil {
		t.Errorf("a client: %v", err)
	}
}

func TestValidateOwn(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		n := startNode(t, cfg)
		err := commitNotes(t, n.Node, "good", "not valid", "good")
		e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, true)
		if e.HandlerCode != sdk.HandlerCodeValidate || !strings.Contains(e.Text, `entry "note" is not valid: callbacks.no: own: true`) {
			t.Errorf("got %v", e)
		}
		wantTypes(t, n.Node, "born", "parley.init")
		if err := commitNotes(t, n.Node, "good"); err != nil {
			t.Error(err)
		}
	})
}

func foreignRecord(t testing.TB, dna sdk.DNAHash, text string) sdk.Record {
	t.Helper()
	content, err := sdk.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	key := testPrivateKey(9)
	r := sdk.Record{Content: content, Header: sdk.Header{Version: sdk.HeaderVersion, DNA: dna, Author: newIdentity(key).agent, Seq: 4, Time: time.UnixMicro(5).UTC(),
		Kind: sdk.KindEntry, EntryType: "note", Visibility: sdk.Public, Entry: sdk.EntryHash(content), Cause: sdk.Cause{Kind: sdk.CallFunction}}}
	sign(&r, key)
	return r
}

func sign(r *sdk.Record, key ed25519.PrivateKey) {
	copy(r.Signature[:], ed25519.Sign(key, sdk.SigningBytes(r.Hash())))
}

func TestValidateForeign(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		cfg.MaxPayload = 1 << 20
		n := startNode(t, cfg)
		a := n.apps.all()[0]
		for name, c := range map[string]struct {
			text   string
			change func(r *sdk.Record)
			code   string // of the handler; empty where it is valid
		}{
			"valid":     {text: "good"},
			"not valid": {text: "not valid", code: sdk.HandlerCodeValidate},
			"garbage": {change: func(r *sdk.Record) {
				r.Content = []byte{0xc1}
				r.Header.Entry = sdk.EntryHash(r.Content)
				sign(r, testPrivateKey(9))
			}, code: sdk.HandlerCodeValidate},
			"not judged": {text: "panic", code: sdk.HandlerCodePanic},
			"forged":     {text: "good", change: func(r *sdk.Record) { r.Signature[3] ^= 1 }, code: sdk.HandlerCodeValidate},
			"changed":    {text: "good", change: func(r *sdk.Record) { r.Content = []byte("x") }, code: sdk.HandlerCodeValidate},
			"private":    {text: "good", change: func(r *sdk.Record) { r.Header.Visibility = sdk.Private; sign(r, testPrivateKey(9)) }, code: sdk.HandlerCodeValidate},
			"withheld":   {text: "good", change: func(r *sdk.Record) { r.Content = nil }, code: sdk.HandlerCodeValidate},
			"own":        {text: "good", change: func(r *sdk.Record) { r.Header.Author = n.Agent() }, code: sdk.HandlerCodeValidate},
			"of another DNA": {text: "good", change: func(r *sdk.Record) { r.Header.DNA[0] ^= 1; sign(r, testPrivateKey(9)) },
				code: sdk.HandlerCodeValidate},
		} {
			r := foreignRecord(t, a.hash, c.text)
			if c.change != nil {
				c.change(&r)
			}
			err := n.validateForeign(t.Context(), a, a.handler, &r)
			var e *sdk.Error
			if c.code == "" && err != nil || c.code != "" && (!errors.As(err, &e) || e.HandlerCode != c.code) {
				t.Errorf("%s: got %v, want %q", name, err, c.code)
			}
		}
		large := foreignRecord(t, a.hash, strings.Repeat("x", cfg.MaxPayload))
		if err := n.validateForeign(t.Context(), a, a.handler, &large); !errors.Is(err, sdk.TooLarge) {
			t.Errorf("a large one: %v", err)
		}
		wantTypes(t, n.Node, "born", "parley.init")
		r := foreignRecord(t, a.hash, "good")
		n.stop()
		if err := n.validateForeign(t.Context(), a, a.handler, &r); !errors.Is(err, sdk.NoHandler) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A validate gets nothing of its host but the log, whatever language it is in.
func TestValidateHasNoHost(t *testing.T) {
	t.Parallel()
	var errs []error
	n := startRaw(t, func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
		_, err := host.Send(ctx, sdk.Message{To: call.From})
		_, err2 := host.Commit(ctx, sdk.Entry{Type: "x"})
		_, err3 := host.Query(ctx, sdk.Query{})
		_, err4 := host.Get(ctx, sdk.Hash{})
		host.Log(ctx, 0, "judged")
		errs = []error{err, err2, err3, err4}
		return nil, nil
	})
	a := n.apps.all()[0]
	a.desc.Validate = true
	r := foreignRecord(t, a.hash, "x")
	if err := n.validateForeign(t.Context(), a, a.handler, &r); err != nil || len(errs) != 4 {
		t.Fatalf("%v, %v", err, errs)
	}
	for _, err := range errs {
		wantHandlerCode(t, err, sdk.HandlerCodeContext)
	}
	if a.chain.Len() != 1 {
		t.Errorf("%d records", a.chain.Len())
	}
}

// A client can't cause the node's own calls.
func TestNobodyElseCausesCallbacks(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		n := startNode(t, cfg)
		for _, name := range []string{"init", "validate", "post_commit", "", "parley.init"} {
			if _, err := n.Node.Call(t.Context(), "callbacks", name, nil); !errors.Is(err, sdk.NoHandler) {
				t.Errorf("%q: %v", name, err)
			}
		}
		if _, err := os.Stat(filepath.Join(string(d), "inits")); err != nil || len(d.lines("inits")) != 1 {
			t.Errorf("%q, %v", d.lines("inits"), err)
		}
	})
}
