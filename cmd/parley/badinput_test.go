package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// TestRunRefuses has parley run, as a process, refuse what it can't work with.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the parallel subtests
	running := startNode(t, newData(t, ""))
	key := func(dir string) string { return filepath.Join(dir, "agent.key") }
	rewrite := func(t *testing.T, path string, change func(string) string) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(change(string(b))), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		args    []string
		data    string // instead of a new directory
		code    int
		want    string // in the one line on stderr
	}{
		{name: "port in use", args: []string{"--listen", taken.Addr().String()}, code: exitFailed, want: "another port with --listen"},
		{name: "no plugin directory", args: []string{"--plugins", filepath.Join(t.TempDir(), "none")}, code: exitFailed, want: "none"},
		{name: "second node", data: running.data, code: exitFailed, want: "another node"},
		{name: "key readable by others", code: exitFailed, want: "chmod 600",
			prepare: func(t *testing.T, dir string) {
				if err := os.Chmod(key(dir), 0o644); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "damaged key", code: exitFailed, want: "damaged",
			prepare: func(t *testing.T, dir string) {
				rewrite(t, key(dir), func(s string) string { return strings.Replace(s, "seed ", "seed 0", 1) })
			}},
		{name: "foreign key", code: exitFailed, want: "not an agent key",
			prepare: func(t *testing.T, dir string) {
				rewrite(t, key(dir), func(string) string { return "-----BEGIN OPENSSH PRIVATE KEY-----\n" })
			}},
		{name: "data directory is a file", data: key(newData(t, "")), code: exitFailed, want: "directory"},
		{name: "bootstrap", args: []string{"--bootstrap", "bob@127.0.0.1:1"}, code: exitUsage, want: "--bootstrap"},
		{name: "advertise", args: []string{"--advertise", "somewhere:1"}, code: exitUsage, want: "--advertise"},
		{name: "log level", args: []string{"--log-level", "loud"}, code: exitUsage, want: "loud"},
		{name: "deadline", args: []string{"--deadline", "0s"}, code: exitUsage, want: "--deadline"},
		{name: "address of another machine", args: []string{"--listen", "240.0.0.1:7480"}, code: exitFailed, want: "--advertise"},
		{name: "address", args: []string{"--listen", "here"}, code: exitUsage, want: "listen"},
		{name: "no network", args: []string{"--network", ""}, code: exitUsage, want: "--network"},
		{name: "long network", args: []string{"--network", strings.Repeat("x", 65)}, code: exitUsage, want: "network"},
		{name: "limit", args: []string{"--handler-max-queue", "0"}, code: exitUsage, want: "--handler-max-queue"},
		{name: "limit out of bounds", args: []string{"--chain-max-entry", "999999999"}, code: exitUsage, want: "chain-max-entry"},
		{name: "lost key", code: exitFailed, want: "restore it from a backup",
			prepare: func(t *testing.T, dir string) {
				chains := filepath.Join(dir, "chains")
				if err := errors.Join(os.Remove(key(dir)), os.MkdirAll(filepath.Join(chains, "auction.db"), 0o700)); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "payload", args: []string{"--max-payload", "-1"}, code: exitUsage, want: "--max-payload"},
		{name: "flag", args: []string{"--portt", "1"}, code: exitUsage, want: "portt"},
		{name: "argument", args: []string{"now"}, code: exitUsage, want: "usage"},
		{name: "unknown setting", code: exitUsage, want: "line 2: lisen",
			prepare: func(t *testing.T, dir string) { writeSettings(t, dir, "network = \"x\"\nlisen = \"127.0.0.1:1\"\n") }},
		{name: "setting of a wrong type", code: exitUsage, want: "line 1: network: a value of another type",
			prepare: func(t *testing.T, dir string) { writeSettings(t, dir, "network = 5\n") }},
		{name: "no TOML", code: exitUsage, want: "line 1",
			prepare: func(t *testing.T, dir string) { writeSettings(t, dir, "network: x\n") }},
		{name: "bad value in the file", code: exitUsage, want: "deadline",
			prepare: func(t *testing.T, dir string) { writeSettings(t, dir, "deadline = \"soon\"\n") }},
		{name: "properties", code: exitUsage, want: "dna.auction.properties",
			prepare: func(t *testing.T, dir string) { writeSettings(t, dir, "[dna.auction]\nproperties = \"{\"\n") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := c.data
			if dir == "" {
				dir = newData(t, "")
			}
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			p := parley(append([]string{"run", "--data", dir, "--listen", "127.0.0.1:0"}, c.args...)...)
			var errOut strings.Builder
			p.Stderr = &errOut
			p.Run() // its exit code is looked at
			last := lastLine(errOut.String())
			if p.ProcessState.ExitCode() != c.code || !strings.HasPrefix(last, "parley: ") || !strings.Contains(last, c.want) {
				t.Errorf("exit code %d, want %d; stderr %q, want a line with %q", p.ProcessState.ExitCode(), c.code, errOut.String(), c.want)
			}
			if strings.Contains(errOut.String(), "PRIVATE KEY") {
				t.Error("the key file's content was printed")
			}
		})
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func writeSettings(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, settingsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCommandsRefuse: wrong usage has exit code 2 and a missing node 3, on each
// command, as text and as JSON.
func TestCommandsRefuse(t *testing.T) {
	t.Parallel()
	data := newData(t, "")
	agent := strings.TrimSpace(cmd("id", "--data", data).ok(t))
	typo := agent[:20] + "q" + agent[21:]
	if typo == agent {
		typo = agent[:20] + "p" + agent[21:]
	}
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitUsage, []string{"fly"}},
		{exitUsage, []string{"chain", "fly"}},
		{exitUsage, []string{"ping"}},
		{exitUsage, []string{"ping", typo}},
		{exitUsage, []string{"ping", agent, "--timeout", "-1s"}},
		{exitUsage, []string{"lookup", "agent1"}},
		{exitUsage, []string{"dht", "fly"}},
		{exitUsage, []string{"dht", "table", "x"}},
		{exitUsage, []string{"dht", "stats", "x"}},
		{exitUsage, []string{"dht", "lookup"}},
		{exitUsage, []string{"dht", "lookup", typo}},
		{exitUsage, []string{"dht", "lookup", agent, "--timeout", "0s"}},
		{exitUsage, []string{"dht", "lookup", agent, "--strict=perhaps"}},
		{exitUsage, []string{"call", "auction"}},
		{exitUsage, []string{"call", "auction", "bid", `{"a": 1`}},
		{exitUsage, []string{"call", "auction", "bid", ""}},
		{exitUsage, []string{"call", "auction", "bid", "-"}},
		{exitUsage, []string{"call", "auction", "bid", "\"\xff\""}},
		{exitUsage, []string{"call", "auction", "bid", `{"a": 1, "a": 2}`}},
		{exitUsage, []string{"call", "auction", "bid", "1", "--timeout", "0s"}},
		{exitUsage, []string{"chain", "verify"}},
		{exitUsage, []string{"chain", "verify", "auction", "--file", "x"}},
		{exitUsage, []string{"chain", "verify", "--file", filepath.Join(data, "none")}},
		{exitUsage, []string{"status", "--data", ""}},
		{exitUsage, []string{"plugin", "fly"}},
		{exitUsage, []string{"plugin", "status", "a", "b"}},
		{exitUsage, []string{"plugin", "restart"}},
		{exitUsage, []string{"plugin", "restart", "auction", "--timeout", "0s"}},
		{exitUsage, []string{"plugin", "events", "auction"}},
		{exitUsage, []string{"dht", "fly"}},
		{exitUsage, []string{"dht", "get", "--dna", "auction"}},
		{exitUsage, []string{"dht", "get", agent, "--dna", "auction"}},
		{exitUsage, []string{"dht", "get", sdk.Hash{1}.String()}},
		{exitUsage, []string{"dht", "get", sdk.Hash{1}.String(), "--dna", "auction", "--timeout", "0s"}},
		{exitNotRunning, []string{"dht", "get", sdk.Hash{1}.String(), "--dna", "auction"}},
		{exitNotRunning, []string{"status"}},
		{exitNotRunning, []string{"plugin", "status"}},
		{exitNotRunning, []string{"plugin", "restart", "auction"}},
		{exitNotRunning, []string{"plugin", "events"}},
		{exitNotRunning, []string{"plugin", "events", "--follow"}},
		{exitNotRunning, []string{"ping", agent}},
		{exitNotRunning, []string{"lookup", agent}},
		{exitNotRunning, []string{"dht", "table"}},
		{exitNotRunning, []string{"dht", "stats"}},
		{exitNotRunning, []string{"dht", "lookup", agent, "--trace"}},
		{exitNotRunning, []string{"call", "auction", "bid", "1"}},
		{exitNotRunning, []string{"chain", "list"}},
		{exitNotRunning, []string{"chain", "show", "auction"}},
		{exitNotRunning, []string{"chain", "verify", "auction"}},
		{exitNotRunning, []string{"chain", "export", "auction"}},
	} {
		args := append([]string{"--data", data}, c.args...)
		r := cmd(args...)
		if r.code != c.code || strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "parley: ") || r.out != "" {
			t.Errorf("%v: want exit code %d and one line, got %+v", c.args, c.code, r)
		}
		r = cmd(append(args, "--json")...)
		var report struct {
			ExitCode int `json:"exit_code"`
			Error    struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(r.err), &report); err != nil || report.ExitCode != c.code || r.code != c.code || report.Error.Message == "" {
			t.Errorf("%v --json: %+v, %v", c.args, r, err)
		}
	}
	if r := cmd("id", "--data", filepath.Join(data, "none")); r.code != exitFailed || !strings.Contains(r.err, "parley init") {
		t.Errorf("id without a key: %+v", r)
	}
}

// TestExitCodes holds the codes against the closed set and the document.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]string{}
	check := func(err error, want int, name string) {
		got, code := failure(err)
		if code != want || got != name || exitCode(err) != want {
			t.Errorf("%v: %s, %d; want %s, %d", err, got, code, name, want)
		}
		if other, ok := seen[code]; ok {
			t.Errorf("%s and %s share exit code %d", other, name, code)
		}
		seen[code] = name
	}
	check(os.ErrClosed, 1, "failed")
	check(usagef("x"), 2, "usage")
	check(control.ErrNotRunning, 3, "not_running")
	for code := sdk.UnknownAgent; code.Valid(); code++ {
		want := 10 + int(code)
		check(&sdk.Error{Code: code, Side: sdk.SideNode}, want, code.Name())
		if row := "| " + itoa(want) + " | " + code.String() + " |"; !strings.Contains(string(doc), row) {
			t.Errorf("docs/cli.md lacks the row %q", row)
		}
		if text := itoa(want) + " " + code.String(); !strings.Contains(strings.Join(strings.Fields(exitHelp), " "), text) {
			t.Errorf("the help lacks %q", text)
		}
	}
	if _, code := failure(&control.InputError{Text: "x"}); code != exitUsage {
		t.Errorf("an InputError has exit code %d", code)
	}
}

func itoa(n int) string { return string(mustJSON(n)) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestInitKeepsTheKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data")
	first := cmd("init", "--data", dir).ok(t)
	second := okJSON[struct{ Agent sdk.AgentID }](t, cmd("init", "--json", "--data", dir))
	if strings.TrimSpace(first) != second.Agent.String() || cmd("id", "--data", dir).ok(t) != first {
		t.Errorf("init gave %s, then %s", first, second.Agent)
	}
	info, err := os.Stat(filepath.Join(dir, "agent.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	if v := okJSON[versionInfo](t, cmd("version", "--json")); v.Version == "" || v.Go == "" {
		t.Errorf("version: %+v", v)
	}
	if out := cmd("version").ok(t); !strings.HasPrefix(out, "parley ") {
		t.Errorf("version: %q", out)
	}
	for _, c := range (&cli{}).root().Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || (c.Example == "" && c.Name() != "version" && c.Name() != "chain") {
			t.Errorf("%s has no help", c.Name())
		}
		if out := cmd(c.Name(), "--help").ok(t); !strings.Contains(out, "--json") {
			t.Errorf("%s --help: %q", c.Name(), out)
		}
	}
	if out := cmd("completion", "bash").ok(t); !strings.Contains(out, "parley") {
		t.Error("no completion")
	}
}

// TestNothingUsefulInThePluginDirectory: the node runs, and says why no handler does.
func TestNothingUsefulInThePluginDirectory(t *testing.T) {
	t.Parallel()
	plugins := t.TempDir()
	for name, text := range map[string]string{"readme.txt": "no handler", "quits": "#!/bin/sh\nexit 3\n"} {
		if err := os.WriteFile(filepath.Join(plugins, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(plugins, "quits"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, newData(t, ""), "--plugins", plugins)
	s := okJSON[control.Status](t, cmd("status", "--json", "--data", n.data))
	reasons := map[string]string{}
	for _, r := range s.Rejected {
		reasons[r.File] = r.Reason
	}
	if len(s.Handlers) != 0 || reasons["quits"] == "" || reasons["readme.txt"] == "" {
		t.Errorf("handlers %+v, rejected %+v", s.Handlers, s.Rejected)
	}
	if out := cmd("status", "--data", n.data).ok(t); !strings.Contains(out, "quits") {
		t.Errorf("status prints %q", out)
	}
	empty := startNode(t, newData(t, ""), "--plugins", t.TempDir())
	if s := okJSON[control.Status](t, cmd("status", "--json", "--data", empty.data)); len(s.Handlers)+len(s.Rejected) != 0 {
		t.Errorf("an empty directory: %+v, %+v", s.Handlers, s.Rejected)
	}
}

// TestDamagedChain: a flipped byte stops one DNA, and every command says so.
func TestDamagedChain(t *testing.T) {
	t.Parallel()
	n := startNode(t, newData(t, ""), "--plugins", auctionPlugins(t))
	cmd("call", "--data", n.data, "auction", "place_bid", bidJSON(n.agent(), 1)).ok(t)
	n.stop()
	files, err := filepath.Glob(filepath.Join(n.data, "chains", "auction-*.db"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("a lamp")) {
		t.Fatal("the entry is not in the file")
	}
	// Everywhere: pages that are no longer in use hold older copies.
	b = bytes.ReplaceAll(b, []byte("a lamp"), []byte("a lamb"))
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	n = startNode(t, n.data, "--plugins", auctionPlugins(t))
	s := okJSON[control.Status](t, cmd("status", "--json", "--data", n.data))
	if len(s.Damaged) != 1 || s.Damaged[0].DNA != "auction" || s.Damaged[0].Seq != 1 || s.Damaged[0].Path != files[0] ||
		strings.Contains(s.Damaged[0].Reason, files[0]) || len(s.Handlers) != 0 {
		t.Errorf("status: %+v, %+v", s.Damaged, s.Handlers)
	}
	r := cmd("chain", "verify", "auction", "--data", n.data)
	if r.code != exitFailed || !strings.Contains(r.err, "record 1 is the first wrong one") || strings.Count(r.err, "backup") != 1 {
		t.Errorf("verify: %+v", r)
	}
	r = cmd("chain", "verify", "auction", "--json", "--data", n.data)
	if r.code != exitFailed || !strings.Contains(r.out, `"wrong":1`) || strings.Contains(r.out, `"hash"`) {
		t.Errorf("verify --json: %+v", r)
	}
	r = cmd("call", "--data", n.data, "auction", "bids")
	if r.code != exitSDK+int(sdk.NoHandler) || !strings.Contains(r.err, "backup") {
		t.Errorf("call: %+v", r)
	}
	if after, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(after, b) {
		t.Errorf("the file was changed, or %v", err)
	}
}

// TestPayloadLimit: both directions, and the setting is named.
func TestPayloadLimit(t *testing.T) {
	t.Parallel()
	n := startNode(t, newData(t, ""), "--plugins", auctionPlugins(t), "--max-payload", "300")
	for range 3 {
		cmd("call", "--data", n.data, "auction", "place_bid", bidJSON(n.agent(), 1)).ok(t)
	}
	big := strings.Repeat("x", 400)
	for name, args := range map[string][]string{
		"input":      {"call", "auction", "highest", `"` + big + `"`},
		"huge input": {"call", "auction", "highest", `"` + strings.Repeat(big, 500) + `"`},
		"reply":      {"call", "auction", "bids"},
	} {
		r := cmd(append(args, "--data", n.data)...)
		if r.code != exitSDK+int(sdk.TooLarge) || !strings.Contains(r.err, "at most 300") || !strings.Contains(r.err, "setting max-payload") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
