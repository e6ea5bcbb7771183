package sdktest_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// relay sends a text to another agent, who keeps it as long as wait says.
var relay = sdk.Define("relay", "1",
	sdk.Function("send", func(c *sdk.Context, m message) (string, error) { return sdk.Send[string](c, m.To, m) }),
	sdk.Function("half", func(c *sdk.Context, m message) (sdk.None, error) {
		if m.Text != "" {
			if _, err := sdk.Send[string](c, m.To, m); err != nil {
				return sdk.None{}, err
			}
		}
		return sdk.None{}, sdk.Fail("relay.half", "given up half way")
	}),
	sdk.Function("exit", func(*sdk.Context, sdk.None) (sdk.None, error) { runtime.Goexit(); return sdk.None{}, nil }),
	sdk.Receive(func(c *sdk.Context, m message) (string, error) {
		if _, err := c.Commit("text", m.Text); err != nil {
			return "", err
		}
		select {
		case <-time.After(m.Wait):
			return m.Text, nil
		case <-c.Done():
			return "", c.Err()
		}
	}),
)

type message struct {
	To   sdk.AgentID
	Text string
	Wait time.Duration
}

func send(ctx context.Context, from, to *sdktest.Node, wait time.Duration) error {
	_, err := sdktest.CallContext[string](ctx, from, "send", message{to.ID(), "hi", wait})
	return err
}

func begin(t *testing.T, from, to *sdktest.Node, wait time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() { done <- send(t.Context(), from, to, wait) }()
	synctest.Wait() // the receive is waiting
	return done
}

func want(t *testing.T, err error, code sdk.Code, side sdk.Side, d sdk.Delivered) {
	t.Helper()
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Code != code || e.Side != side || e.Delivered != d {
		t.Fatalf("got %v, want %v from %v, delivered %v", err, code, side, d)
	}
}

// inBubble runs f on a fresh network of two, where time is virtual.
func inBubble(t *testing.T, f func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t, sdktest.Options{MaxPayload: 1000, MaxCalls: 3})
		f(t, net, net.Node("alice", relay), net.Node("bob", relay))
	})
}

// What one call commits is bounded as in a node with its defaults.
func TestCommitLimits(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	d := sdk.Define("bulk", "1", sdk.Function("bulk", func(c *sdk.Context, in struct{ N, Size int }) (sdk.None, error) {
		for range in.N {
			if _, err := c.Commit("x", make([]byte, in.Size)); err != nil {
				return sdk.None{}, err
			}
		}
		return sdk.None{}, nil
	}))
	x := net.Node("x", d)
	for _, test := range []struct {
		n, size int
		setting string
	}{{1024, 1, ""}, {1025, 1, "chain-max-entries"}, {1, 4<<20 - 100, ""}, {1, 4 << 20, "chain-max-entry"}, {6, 3 << 20, "max-payload"}} {
		_, err := sdktest.Call[sdk.None](x, "bulk", struct{ N, Size int }{test.n, test.size})
		e, _ := errors.AsType[*sdk.Error](err)
		if test.setting == "" && err != nil || test.setting != "" && (e == nil || e.Code != sdk.TooLarge || e.Limit.Setting != test.setting) {
			t.Errorf("%d entries of %d bytes: %v, want %q", test.n, test.size, err, test.setting)
		}
	}
	if n := len(x.Chain()); n != 1+1024+1 {
		t.Errorf("%d records", n)
	}
}

// A function that failed may be called again only if no message of it took effect.
func TestRetryAfterSend(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		for text, retry := range map[string]bool{"": true, "sent": false} {
			_, err := sdktest.Call[sdk.None](alice, "half", message{To: bob.ID(), Text: text})
			if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != "relay.half" || e.Retry != retry {
				t.Errorf("sent %q: %v", text, err)
			}
		}
	})
}

func TestCut(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		done := begin(t, alice, bob, time.Second)
		net.Cut(bob, alice)
		want(t, <-done, sdk.OutcomeUnknown, sdk.SideNode, sdk.DeliveredUnknown)
		want(t, send(t.Context(), alice, bob, 0), sdk.Unreachable, sdk.SideNode, sdk.DeliveredNo)
		<-time.After(time.Second) // virtual: the receive that nobody hears ends
		synctest.Wait()
		if got := sdktest.Entries[string](bob, "text"); len(got) != 1 {
			t.Fatalf("bob's chain holds %q; the receive was to go on", got)
		}
		net.Heal(alice, bob)
		if err := send(t.Context(), alice, bob, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCutOnTheWay(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		net.Delay(alice, bob, time.Second)
		done := begin(t, alice, bob, 0)
		net.Cut(alice, bob)
		want(t, <-done, sdk.OutcomeUnknown, sdk.SideNode, sdk.DeliveredUnknown)
		if got := sdktest.Entries[string](bob, "text"); len(got) != 0 {
			t.Fatalf("bob's chain holds %q", got)
		}
	})
}

func TestDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		net.Delay(alice, bob, 3*time.Second)
		began := time.Now()
		if err := send(t.Context(), alice, bob, 4*time.Second); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %s, want 10s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := send(ctx, alice, bob, 0); !errors.Is(err, sdk.Timeout) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDefaultDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		began := time.Now()
		err := send(t.Context(), alice, bob, time.Hour)
		if took := time.Since(began); !errors.Is(err, sdk.Timeout) || took != time.Minute {
			t.Errorf("%v after %s", err, took)
		}
		if n := len(bob.Chain()); n != 1 {
			t.Errorf("%d records", n)
		}
	})
}

func TestCrashEndsAllOfAProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		first, second := begin(t, alice, bob, time.Hour), begin(t, alice, bob, time.Hour)
		net.Crash(bob)
		want(t, <-first, sdk.HandlerCrashed, sdk.SideRemoteHandler, sdk.DeliveredYes)
		want(t, <-second, sdk.HandlerCrashed, sdk.SideRemoteHandler, sdk.DeliveredYes)
		// A handler that leaves its goroutine without returning is a crash too.
		_, err := sdktest.Call[sdk.None](alice, "exit", sdk.None{})
		want(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
	})
}

func TestStop(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		net.Stop(bob)
		want(t, send(t.Context(), alice, bob, 0), sdk.Unreachable, sdk.SideNode, sdk.DeliveredNo)
		want(t, send(t.Context(), bob, alice, 0), sdk.Unreachable, sdk.SideNode, sdk.DeliveredNo)
		net.Start(bob)
		if err := send(t.Context(), alice, bob, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBlock(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		bob.Block(alice.ID())
		want(t, send(t.Context(), alice, bob, 0), sdk.Refused, sdk.SideRemoteNode, sdk.DeliveredNo)
		if err := send(t.Context(), bob, alice, 0); err != nil {
			t.Fatalf("the other way: %v", err)
		}
		bob.Unblock(alice.ID())
		if err := send(t.Context(), alice, bob, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBusy(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		carol := net.Node("carol", relay)
		var running []<-chan error
		for _, n := range []*sdktest.Node{alice, alice, carol} {
			running = append(running, begin(t, n, bob, time.Second))
		}
		err := send(t.Context(), carol, bob, 0)
		want(t, err, sdk.Busy, sdk.SideRemoteNode, sdk.DeliveredNo)
		if e, _ := errors.AsType[*sdk.Error](err); e.Limit == nil || e.Limit.Max != 3 {
			t.Errorf("the limit is %+v", e.Limit)
		}
		for _, done := range running {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestFailCommits(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		bob.FailCommits(errors.New("no space left on device"))
		err := send(t.Context(), alice, bob, 0)
		if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != sdk.HandlerCodeCommit || !strings.Contains(e.Text, "no space") {
			t.Fatalf("got %v", err)
		}
		bob.FailCommits(nil)
		if err := send(t.Context(), alice, bob, 0); err != nil || len(bob.Chain()) != 2 {
			t.Fatalf("%d records, %v", len(bob.Chain()), err)
		}
	})
}

func TestOtherDNA(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		apart := net.Node("carol", relay, sdktest.NodeOptions{NetworkSeed: "village"})
		other := net.Node("dave", sdk.Define("other", "1", sdk.Function("double", double)))
		for n, text := range map[*sdktest.Node]string{apart: "under another hash", other: "not running there"} {
			err := send(t.Context(), alice, n, 0)
			want(t, err, sdk.NoHandler, sdk.SideRemoteNode, sdk.DeliveredNo)
			if !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want %q", err, text)
			}
		}
	})
}

// TestEndsWithTheTest: calls that run when the test ends are cancelled and
// waited for, or the bubble would not end.
func TestEndsWithTheTest(t *testing.T) {
	inBubble(t, func(t *testing.T, net *sdktest.Net, alice, bob *sdktest.Node) {
		go func() { _ = send(context.Background(), alice, bob, 30*time.Second) }()
		synctest.Wait()
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	again := sdktest.ID("alice")
	if sdktest.ID("alice") != again || sdktest.ID("bob") == again {
		t.Error("ids are not the names'")
	}
	for _, name := range []string{"", "alice", "bob", "carol", "dave"} {
		if _, err := sdk.ParseAgentID(sdktest.ID(name).String()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyChainFinds(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", relay), net.Node("bob", relay)
	for range 3 {
		if err := send(t.Context(), alice, bob, 0); err != nil {
			t.Fatal(err)
		}
	}
	for what, damage := range map[string]func(rs []sdk.Record) []sdk.Record{
		"record 2: bad signature":    func(rs []sdk.Record) []sdk.Record { rs[2].Signature[0] ^= 1; return rs },
		"record 1: the entry's hash": func(rs []sdk.Record) []sdk.Record { rs[1].Content = []byte("x"); return rs },
		"record 1: its number is 2":  func(rs []sdk.Record) []sdk.Record { return append(rs[:1], rs[2:]...) },
		"record 2: it is not linked": func(rs []sdk.Record) []sdk.Record { rs[2].Header.Prev[5] ^= 1; return rs },
		"record 3: its author is":    func(rs []sdk.Record) []sdk.Record { rs[3].Header.Author[0] ^= 1; return rs },
		"record 3: its DNA is":       func(rs []sdk.Record) []sdk.Record { rs[3].Header.DNA[0] ^= 1; return rs },
		"record 0: its kind is 2":    func(rs []sdk.Record) []sdk.Record { rs[0].Header.Kind = sdk.KindEntry; return rs },
		"record 1: its kind is 1":    func(rs []sdk.Record) []sdk.Record { rs[1].Header.Kind = sdk.KindGenesis; return rs },
	} {
		if err := sdktest.VerifyChain(damage(bob.Chain())); err == nil || !strings.HasPrefix(err.Error(), what) {
			t.Errorf("got %v, want %s", err, what)
		}
	}
}
