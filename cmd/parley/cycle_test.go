package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func bidJSON(to sdk.AgentID, amount int) string {
	return fmt.Sprintf(`{"to": %q, "item": "a lamp", "amount": %d}`, to, amount)
}

// TestTwoNodes walks through the commands on two real nodes with real handlers.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	plugins := auctionPlugins(t)
	bob := startNode(t, newData(t, ""), "--plugins", plugins)
	alice := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	a, b := alice.data, bob.data

	if got := strings.TrimSpace(cmd("id", "--data", b).ok(t)); got != bob.agent().String() {
		t.Errorf("parley id prints %q, the node is %s", got, bob.agent())
	}
	type entry struct {
		Item    string        `json:"item"`
		Amount  int           `json:"amount"`
		With    sdk.AgentID   `json:"with"`
		Message sdk.MessageID `json:"message"`
	}
	placed := okJSON[entry](t, cmd("call", "--json", "--data", a, "auction", "place_bid", bidJSON(bob.agent(), 50)))
	if placed.With != bob.agent() || placed.Amount != 50 {
		t.Errorf("place_bid answers %+v", placed)
	}
	best := okJSON[entry](t, cmdIn(`"a lamp"`, "call", "--data", b, "auction", "highest", "-"))
	if best.With != alice.agent() || best.Message != placed.Message {
		t.Errorf("highest is %+v, the bid was %+v", best, placed)
	}

	ping := okJSON[control.PingResult](t, cmd("ping", "--json", "--data", a, bob.agent().String()))
	if !ping.Reused || ping.Time <= 0 || ping.Address.String() != strings.Split(bob.peer, "@")[1] {
		t.Errorf("ping: %+v", ping)
	}
	if out := cmd("ping", "--data", a, bob.agent().String()).ok(t); !strings.Contains(out, "session reused") {
		t.Errorf("ping prints %q", out)
	}
	if p := okJSON[presence](t, cmd("online", "--json", "--data", a, bob.agent().String())); !p.Online || p.Agent != bob.agent() || p.LastHeard.IsZero() {
		t.Errorf("online: %+v", p)
	}
	if out := cmd("online", "--data", a, bob.agent().String()).ok(t); !strings.Contains(out, " is online, last heard ") {
		t.Errorf("online prints %q", out)
	}
	look := okJSON[control.LookupResult](t, cmd("lookup", "--json", "--data", a, bob.agent().String()))
	if look.Agent != bob.agent() || len(look.Addresses) != 1 || look.Addresses[0] != ping.Address {
		t.Errorf("lookup: %+v", look)
	}
	if out := cmd("lookup", "--data", a, bob.agent().String()).ok(t); !strings.Contains(out, ping.Address.String()) {
		t.Errorf("lookup prints %q", out)
	}
	status := okJSON[control.Status](t, cmd("status", "--json", "--data", b))
	if !status.Ready || status.Agent != bob.agent() || len(status.Handlers) != 1 || status.Handlers[0].DNA != "auction" ||
		status.Handlers[0].PID == 0 || status.Traffic.Messages != 1 || len(status.Sessions) != 1 || status.Sessions[0].Agent != alice.agent() {
		t.Errorf("status: %+v", status)
	}
	out := cmd("status", "--data", b).ok(t)
	for _, want := range []string{bob.agent().String(), alice.agent().String(), "auction", "running", "place_bid", "max-payload"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not print %q:\n%s", want, out)
		}
	}
	t.Run("chain", func(t *testing.T) { chainCommands(t, alice, bob) })
}

func chainCommands(t *testing.T, alice, bob *runningNode) {
	chains := okJSON[[]control.ChainInfo](t, cmd("chain", "list", "--json", "--data", bob.data))
	if len(chains) != 1 || chains[0].DNA != "auction" || chains[0].Records != 2 {
		t.Fatalf("chain list: %+v", chains)
	}
	if out := cmd("chain", "list", "--data", bob.data).ok(t); !strings.Contains(out, chains[0].Head.String()) {
		t.Errorf("chain list prints %q", out)
	}
	records := okJSON[[]recordJSON](t, cmd("chain", "show", "auction", "--json", "--type", "bid", "--data", bob.data))
	if len(records) != 1 || records[0].Hash != chains[0].Head || records[0].From != alice.agent() || records[0].Cause != "receive" {
		t.Errorf("chain show: %+v", records)
	}
	if r := cmd("dht", "get", records[0].Hash.String(), "--dna", "auction", "--data", bob.data); r.code == 0 || strings.Contains(r.out+r.err, "a lamp") {
		t.Errorf("a private entry was found: %+v", r)
	}
	if out := cmd("chain", "show", "auction", "--data", bob.data).ok(t); !strings.Contains(out, `"item":"a lamp"`) || !strings.Contains(out, "receive from "+alice.agent().Short()) {
		t.Errorf("chain show prints %q", out)
	}
	if out := cmd("chain", "verify", "auction", "--data", bob.data).ok(t); !strings.Contains(out, "valid: 2 records") {
		t.Errorf("chain verify prints %q", out)
	}
	file := filepath.Join(t.TempDir(), "bids.chain")
	cmd("chain", "export", "auction", "--data", bob.data, "--output", file).ok(t)
	archive := filepath.Join(t.TempDir(), "archive.chain")
	cmd("chain", "export", "auction", "--private", "--data", bob.data, "--output", archive).ok(t)
	for name, content := range map[string]bool{file: false, archive: true} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		v := okJSON[control.VerifyResult](t, cmd("chain", "verify", "--json", "--file", name))
		if bytes.Contains(b, []byte("a lamp")) != content || v.Withheld == 0 != content || !v.Valid {
			t.Errorf("%s: private entries in it: %v, want %v; %+v", name, !content, content, v)
		}
	}
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive's mode: %v, %v", info.Mode(), err)
	}
	if r := cmd("chain", "verify", "--file", "cycle_test.go"); r.code != exitFailed || !strings.Contains(r.err, "no chain could be read") {
		t.Errorf("a file that is no export: %+v", r)
	}
	if r := cmd("chain", "export", "auction", "--data", bob.data, "--output", file); r.code != exitFailed || !strings.Contains(r.err, "--output") {
		t.Errorf("an export replaced a file: %+v", r)
	}
	v := okJSON[control.VerifyResult](t, cmd("chain", "verify", "--json", "--file", file))
	if !v.Valid || v.Records != 2 || v.Author != bob.agent() || v.Head != chains[0].Head {
		t.Errorf("verify of the export: %+v", v)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := cmdIn(string(b), "chain", "verify", "--file", "-"); r.code != 0 {
		t.Errorf("verify from stdin: %+v", r)
	}
	for name, damaged := range map[string][]byte{"cut": b[:len(b)-1], "empty": nil, "flipped": append([]byte{b[0] ^ 1}, b[1:]...)} {
		r := cmdIn(string(damaged), "chain", "verify", "--json", "--file", "-")
		var v control.VerifyResult
		if err := json.Unmarshal([]byte(r.out), &v); r.code != exitFailed || err != nil || v.Valid || v.Reason == "" {
			t.Errorf("%s export: %+v, %v", name, r, err)
		}
	}
}

// TestMessageErrors has real nodes produce errors of the closed set and holds
// the exit codes against them.
func TestMessageErrors(t *testing.T) {
	t.Parallel()
	const slow = "[dna.auction]\nproperties = { deliberate = \"1h\" }\n"
	plugins := auctionPlugins(t)
	bob := startNode(t, newData(t, slow), "--plugins", plugins)
	alice := startNode(t, newData(t, slow), "--plugins", plugins, "--bootstrap", bob.peer, "--max-payload", "100000")
	stranger := strings.TrimSpace(cmd("id", "--data", newData(t, "")).ok(t))
	call := func(args ...string) []string {
		return append([]string{"call", "--json", "--data", alice.data}, args...)
	}
	for _, c := range []struct {
		name string
		code sdk.Code
		args []string
	}{
		{"no such DNA", sdk.NoHandler, call("chess", "move", "1")},
		{"no such function", sdk.NoHandler, call("auction", "close")},
		{"bad input", sdk.HandlerFailed, call("auction", "place_bid", `{"too": 1}`)},
		{"handler's own error", sdk.HandlerFailed, call("auction", "place_bid", bidJSON(bob.agent(), 0))},
		{"large payload", sdk.TooLarge, call("auction", "highest", `"`+strings.Repeat("x", 100_001)+`"`)},
		{"deadline", sdk.Timeout, call("--timeout", "300ms", "auction", "place_bid", bidJSON(bob.agent(), 1))},
		{"unknown agent", sdk.UnknownAgent, []string{"ping", "--json", "--data", alice.data, stranger}},
		{"unknown agent", sdk.UnknownAgent, []string{"lookup", "--json", "--data", alice.data, stranger}},
		{"no such chain", sdk.NoHandler, []string{"chain", "show", "chess", "--json", "--data", alice.data}},
	} {
		r := cmd(c.args...)
		checkFailure(t, c.name, r, c.code)
	}
	t.Run("crash", func(t *testing.T) {
		done := make(chan result)
		go func() { done <- cmd(call("auction", "place_bid", bidJSON(bob.agent(), 1))...) }()
		if err := syscall.Kill(bob.awaitCall(t.Context()), syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		checkFailure(t, "crash", <-done, sdk.HandlerCrashed)
		v := okJSON[control.VerifyResult](t, cmd("chain", "verify", "auction", "--json", "--data", bob.data))
		if !v.Valid || v.Records != 1 {
			t.Errorf("the chain after the crash: %+v", v)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		bob.stop()
		r := cmd("ping", "--json", "--data", alice.data, bob.agent().String())
		if r.code != exitSDK+int(sdk.Unreachable) && r.code != exitSDK+int(sdk.UnknownAgent) {
			t.Errorf("%+v", r)
		}
	})
}

// checkFailure holds exit code and JSON of a failed command against code.
func checkFailure(t *testing.T, name string, r result, code sdk.Code) {
	t.Helper()
	var report struct {
		ExitCode int       `json:"exit_code"`
		Error    sdk.Error `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.err), &report); err != nil {
		t.Errorf("%s: %v in %+v", name, err, r)
		return
	}
	if r.code != exitSDK+int(code) || report.ExitCode != r.code || report.Error.Code != code || r.out != "" {
		t.Errorf("%s: want %s, exit code %d; got %+v", name, code, exitSDK+int(code), r)
	}
}

// TestStop has a node stop in order while a call runs, and at once when told twice.
func TestStop(t *testing.T) {
	t.Parallel()
	const slow = "[dna.auction]\nproperties = { deliberate = \"1h\" }\n"
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		again  bool
	}{{"in order", syscall.SIGTERM, false}, {"terminal closed", syscall.SIGHUP, false}, {"at once", syscall.SIGTERM, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if signal.Ignored(c.signal) {
				t.Skip("the tests run under nohup")
			}
			n := startNode(t, newData(t, slow), "--plugins", auctionPlugins(t))
			done := make(chan result)
			go func() {
				done <- cmd("call", "--json", "--data", n.data, "auction", "place_bid", bidJSON(n.agent(), 1))
			}()
			n.awaitCall(t.Context())
			n.signal(c.signal)
			if c.again {
				for msg := range n.events {
					if strings.HasPrefix(msg, "stopping") {
						break
					}
				}
				n.signal(syscall.SIGINT)
			}
			if r := <-done; r.code <= exitSDK {
				t.Errorf("the call ended with %+v", r)
			}
			<-n.ended
			switch code := n.cmd.ProcessState.ExitCode(); {
			case !c.again && code != 0:
				t.Errorf("exit code %d", code)
			// 0: it was quicker than the second signal; -1: it had ended all but
			// its process, which the signal then killed.
			case c.again && code != exitKilled && code != 0 && code != -1:
				t.Errorf("exit code %d", code)
			}
			if _, err := os.Lstat(filepath.Join(n.data, control.SocketName)); !c.again && !os.IsNotExist(err) {
				t.Errorf("the control socket is left: %v", err)
			}
			// Whatever the end was like, the next start works on what is there.
			startNode(t, n.data, "--plugins", auctionPlugins(t))
			if v := okJSON[control.VerifyResult](t, cmd("chain", "verify", "auction", "--json", "--data", n.data)); !v.Valid || v.Records != 1 {
				t.Errorf("the chain: %+v", v)
			}
		})
	}
}

func TestRunPrintsReadableLog(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log := newLog(&b, 0, false)
	log.Info("text\x1b[2J", "key", "a\nb", "at", time.Duration(5))
	if s := b.String(); strings.Count(s, "\n") != 1 || strings.Contains(s, "\x1b") {
		t.Errorf("%q", s)
	}
}

// TestCompletion: a shell is offered the DNAs and functions of the node, and no
// files.
func TestCompletion(t *testing.T) {
	t.Parallel()
	n := startNode(t, newData(t, ""), "--plugins", auctionPlugins(t))
	for _, c := range []struct{ args, want string }{
		{"call|", "auction\n:4\n"},
		{"call|auction|", "bids\nhighest\nplace_bid\n:4\n"},
		{"call|auction|h", "highest\n:4\n"},
		{"call|chess|", ":4\n"},
		{"chain|show|au", "auction\n:4\n"},
		{"chain|export|auction|", ":4\n"},
		{"ping|", ":4\n"},
		{"plugin|status|", "auction\n:4\n"},
		{"plugin|restart|au", "auction\n:4\n"},
		{"plugin|restart|auction|", ":4\n"},
	} {
		words := strings.Split(c.args, "|")
		args := append([]string{"__complete", words[0], "--data", n.data}, words[1:]...)
		if words[0] == "chain" || words[0] == "plugin" {
			args = append([]string{"__complete", words[0], words[1], "--data", n.data}, words[2:]...)
		}
		if r := cmd(args...); r.out != c.want || r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := cmd("__complete", "call", "--data", newData(t, ""), ""); r.out != ":4\n" {
		t.Errorf("without a node: %+v", r)
	}
}

// TestListsAreNeverNull: what is empty is an empty list in JSON.
func TestListsAreNeverNull(t *testing.T) {
	t.Parallel()
	n := startNode(t, newData(t, ""), "--listen", "127.0.0.1:0")
	for _, args := range [][]string{{"status"}, {"plugin", "status"}, {"chain", "list"}, {"lookup", n.agent().String()}} {
		if out := cmd(append(args, "--json", "--data", n.data)...).ok(t); strings.Contains(out, ":null") {
			t.Errorf("%v: %s", args, out)
		}
	}
}
