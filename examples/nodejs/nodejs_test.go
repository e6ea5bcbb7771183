//go:build unix

// Package nodejs tests the example with real nodes and real processes of
// Node.js. It has no Go code of its own.
package nodejs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// PARLEY_NODEJS is "skip" where these tests have a run of their own, and "must"
// in that run: what they need has to be there then.
var want = os.Getenv("PARLEY_NODEJS")

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if want == "must" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// bundles builds the example in a copy of it, and gives the directory with
// guestbook and faults.
func bundles(t *testing.T) string {
	t.Helper()
	if want == "skip" {
		t.Skip("left to another run")
	}
	if testing.Short() {
		t.Skip("not with -short")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "Node.js is not here: %v", err)
		}
	}
	if out, err := exec.Command("node", "-p", "typeof process.getBuiltinModule").Output(); err != nil || string(out) != "function\n" {
		missing(t, "Node.js is older than 20.16")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "examples", "nodejs")
	for _, pattern := range []string{"*.js", "*.json", ".npmrc", "testdata/*.js", "../../sdk/handlerpb/handler.proto"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			to := filepath.Join(dir, f)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, b, 0o600))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(limit time.Duration, name string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.WaitDelay = dir, time.Second
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// Without a network it fails at once.
	if out, err := run(2*time.Minute, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0"); err != nil {
		missing(t, "npm ci: %v\n%s", err, out)
	}
	for name, source := range map[string]string{"guestbook": "guestbook.js", "faults": "testdata/faults.js"} {
		if out, err := run(time.Minute, "node", "build.js", source, "dist/"+name); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	if prefix() == "" {
		return filepath.Join(dir, "dist")
	}
	for _, name := range []string{"guestbook", "faults"} {
		file := filepath.Join(dir, "dist", name)
		b, err := os.ReadFile(file)
		if err == nil {
			_, rest, _ := bytes.Cut(b, []byte("\n"))
			b = append([]byte("#!"+filepath.Join(prefix(), "bin", "node")+"\n"), rest...)
			err = os.WriteFile(file, b, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "dist")
}

// prefix is where Node.js lies if a handler would not find it: it is named in
// the bundles then, and granted.
func prefix() string {
	p, err := exec.LookPath("node")
	if err != nil || slices.Contains([]string{"/usr/local/bin", "/usr/bin", "/bin"}, filepath.Dir(p)) {
		return ""
	}
	if p, err = filepath.EvalSymlinks(p); err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(p))
}

// world is two nodes with the same handlers.
type world struct {
	parley     string // the command
	dist       string
	alice, bob *node
}

type node struct {
	parley, data, dir string // dir is the plugin directory
	id, peer          string
	client            *http.Client
	cmd               *exec.Cmd

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

func newWorld(t *testing.T, dist string) *world {
	w := &world{dist: dist}
	dir := t.TempDir()
	w.parley = filepath.Join(dir, "parley")
	if out, err := exec.Command("go", "build", "-o", w.parley, "github.com/parley-p2p/parley/cmd/parley").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	w.bob = w.node(t, "bob", "")
	w.alice = w.node(t, "alice", w.bob.peer)
	return w
}

// node starts a node with both handlers, and waits until they run.
func (w *world) node(t *testing.T, name, bootstrap string) *node {
	t.Helper()
	// The path of the control socket has about 100 bytes at most.
	top, err := os.MkdirTemp("", "parley-nodejs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	n := &node{parley: w.parley, data: filepath.Join(top, name), dir: filepath.Join(top, "plugins")}
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"guestbook", "faults"} {
		n.drop(t, filepath.Join(w.dist, h), h, "")
	}
	n.ok(t, "init")
	n.id = strings.TrimSpace(n.ok(t, "id"))
	settings := "[dna.node-faults]\nproperties = { motto = \"hej\", list = [1, 2] }\n"
	if prefix() != "" {
		for _, h := range []string{"guestbook", "faults"} {
			settings += fmt.Sprintf("[handler.%s]\ngrant = [%q]\n", h, "read:"+prefix())
		}
	}
	if err := os.WriteFile(filepath.Join(n.data, "parley.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--data", n.data, "--plugins", n.dir, "--listen", "127.0.0.1:0", "--log-json"}
	if bootstrap != "" {
		args = append(args, "--bootstrap", bootstrap)
	}
	n.cmd = exec.Command(w.parley, args...)
	n.cmd.Stderr = n
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.stop(t) })
	n.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.data, "control.sock"))
	}}}
	n.until(t, "a line with its address", func() bool { return n.peer != "" })
	n.until(t, "both handlers", func() bool {
		return n.plugin("guestbook").State == "running" && n.plugin("faults").State == "running"
	})
	return n
}

// Write takes the node's log.
func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log.Write(b)
	return len(b), nil
}

func (n *node) logs(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(n.log.String()) {
		var ready struct{ Event, Peer string }
		if json.Unmarshal([]byte(line), &ready) == nil && ready.Event == "ready" {
			n.peer = ready.Peer
		}
	}
	return strings.Contains(n.log.String(), text)
}

func (n *node) stop(t *testing.T) {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the node: %v", err)
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", n.data, n.log.String())
	}
}

// drop puts a bundle into the plugin directory in one step. What is added makes
// another one of it.
func (n *node) drop(t *testing.T, from, name, added string) {
	t.Helper()
	b, err := os.ReadFile(from)
	part := filepath.Join(filepath.Dir(n.dir), "part")
	err = errors.Join(err, os.WriteFile(part, append(b, added...), 0o700), os.Rename(part, filepath.Join(n.dir, name)))
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		n.logs("")
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: waited in vain for %s; faults %+v, guestbook %+v", n.data, what, n.plugin("faults"), n.plugin("guestbook"))
		}
	}
}

// command runs parley with an input, and gives what it printed and its exit code.
func (n *node) command(input string, args ...string) (out, errOut string, code int) {
	cmd := exec.Command(n.parley, append(args, "--data", n.data)...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &o, &e
	_ = cmd.Run() // its exit code is looked at
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func (n *node) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, code := n.command("", args...)
	if code != 0 {
		t.Fatalf("parley %v: exit code %d: %s", args, code, errOut)
	}
	return out
}

type pluginStatus struct {
	State, SHA256, Error string
	InFlight             int `json:"in_flight"`
	Generation, Restarts int
	PID                  int
}

func (n *node) plugin(file string) (p pluginStatus) {
	out, _, _ := n.command("", "plugin", "status", file, "--json")
	var list []pluginStatus
	if json.Unmarshal([]byte(out), &list) == nil && len(list) == 1 {
		p = list[0]
	}
	return p
}

// call calls a function through the control API: without a process of its own.
func (n *node) call(dna, function string, input, output any) error {
	in, err := json.Marshal(input)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"dna": dna, "function": function, "json": string(in)})
	if err != nil {
		return err
	}
	r, err := n.client.Post("http://parley/parley.control.v1.Control/Call", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %w: %.2000s", r.Status, err, answer)
	}
	var reply struct{ JSON string }
	if err := json.Unmarshal(answer, &reply); err != nil || output == nil {
		return err
	}
	return json.Unmarshal([]byte(reply.JSON), output)
}

func (n *node) mustCall(t *testing.T, dna, function string, input, output any) {
	t.Helper()
	if err := n.call(dna, function, input, output); err != nil {
		t.Fatalf("%s: %v", function, err)
	}
}

// failure is the error of a call that fails.
type failure struct {
	Code        string
	HandlerCode string `json:"handler_code"`
	Side        string
	Delivered   string
	Message     string
	Retry       bool
}

func (n *node) fails(t *testing.T, dna, function, input string, flags ...string) (f failure) {
	t.Helper()
	args := append([]string{"call", dna, function, "--json"}, flags...)
	if input != "" {
		args = append(args, "-")
	}
	out, errOut, code := n.command(input, args...)
	var e struct{ Error failure }
	if err := json.Unmarshal([]byte(errOut), &e); code == 0 || err != nil {
		t.Fatalf("%s: exit code %d, %s%s", function, code, out, errOut)
	}
	return e.Error
}

// records are the entries of one type on the chain.
func (n *node) records(t *testing.T, dna, entryType string) (count int) {
	t.Helper()
	var all []struct{ Type string }
	out := n.ok(t, "chain", "show", dna, "--type", entryType, "--limit", "1000", "--json")
	for d := json.NewDecoder(strings.NewReader(out)); ; count++ {
		var r json.RawMessage
		err := d.Decode(&r)
		if err == io.EOF {
			return count
		}
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if json.Unmarshal(r, &all) == nil {
			return len(all)
		}
	}
}

type note struct {
	To   string `json:"to"`
	Text string `json:"text"`
}

type guest struct{ Who, Text string }

func TestNodeJS(t *testing.T) {
	t.Parallel()
	dist := bundles(t)
	t.Run("process", func(t *testing.T) { process(t, filepath.Join(dist, "faults")) })
	w := newWorld(t, dist)
	// One after the other: they look at the same chains.
	t.Run("guestbook", w.guestbook)
	t.Run("news", w.news)
	t.Run("invite", w.invite)
	t.Run("validate", w.validate)
	t.Run("errors", w.errors)
	t.Run("faults", w.faults)
	t.Run("deadlines", w.deadlines)
	t.Run("large", w.large)
	t.Run("concurrent", w.concurrent)
	t.Run("sandbox", w.sandbox)
	t.Run("swap", w.swap)
	t.Run("crash", w.crash)
	for _, n := range []*node{w.alice, w.bob} {
		n.ok(t, "chain", "verify", "node-guestbook")
	}
}

func (w *world) guestbook(t *testing.T) {
	var answer string
	w.alice.mustCall(t, "node-guestbook", "sign", note{w.bob.id, "Lovely garden"}, &answer)
	if answer != "Thank you, "+w.alice.id[:14] {
		t.Errorf("answer %q", answer)
	}
	var guests []guest
	w.bob.mustCall(t, "node-guestbook", "read", nil, &guests)
	if len(guests) != 1 || guests[0] != (guest{w.alice.id, "Lovely garden"}) {
		t.Errorf("guests: %+v", guests)
	}
	if a, b := w.alice.records(t, "node-guestbook", "signed"), w.bob.records(t, "node-guestbook", "guest"); a != 1 || b != 1 {
		t.Errorf("records: %d of alice's, %d of bob's", a, b)
	}
}

// news: a public entry, post_commit, a notification, a signal, and the entry again at
// the other agent.
func (w *world) news(t *testing.T) {
	for _, n := range []*node{w.alice, w.bob} {
		if opened := n.records(t, "node-guestbook", "opened"); opened != 1 {
			t.Errorf("init has committed %d times", opened)
		}
	}
	watched := make(chan string, 1)
	go func() {
		out, errOut, _ := w.bob.command("", "watch", "node-guestbook", "--count", "1", "--json")
		watched <- out + errOut
	}()
	headline, signal := "the roses are in bloom", ""
	w.alice.until(t, "bob's clients hear of it", func() bool {
		w.alice.mustCall(t, "node-guestbook", "publish", headline, nil) // until bob is watched
		select {
		case signal = <-watched:
		case <-time.After(200 * time.Millisecond):
		}
		return signal != ""
	})
	if !strings.Contains(signal, w.alice.id) || !strings.Contains(signal, "hash1") {
		t.Errorf("the signal is %s", signal)
	}
	w.bob.until(t, "the headline", func() bool {
		var told []guest
		w.bob.mustCall(t, "node-guestbook", "news", nil, &told)
		return len(told) > 0 && told[0] == guest{w.alice.id, headline}
	})
	if got := w.alice.fails(t, "node-guestbook", "publish", `"`+strings.Repeat("x", 201)+`"`); got.HandlerCode != "parley.validate" || got.Side != "handler" {
		t.Errorf("a headline that is not valid: %+v", got)
	}
	var results []string
	w.alice.mustCall(t, "node-faults", "notify", map[string]any{"to": []string{w.bob.id}, "wait": true}, &results)
	if fmt.Sprint(results) != "[no_handler]" {
		t.Errorf("of a DNA without notified: %v", results)
	}
}

// invite: a function for those who have a grant, as often as it says.
func (w *world) invite(t *testing.T) {
	at := map[string]string{"at": w.bob.id}
	peek := func() failure {
		return w.alice.fails(t, "node-guestbook", "peek", `{"at":"`+w.bob.id+`"}`)
	}
	if got := peek(); got.Code != "refused" || got.Side != "remote_node" || got.Delivered != "no" {
		t.Errorf("without a grant: %+v", got)
	}
	var grant string
	w.bob.mustCall(t, "node-guestbook", "invite", map[string]any{"to": w.alice.id, "uses": 1}, &grant)
	var guests []guest
	w.alice.mustCall(t, "node-guestbook", "peek", at, &guests)
	if len(guests) != 1 || guests[0] != (guest{w.alice.id, "Lovely garden"}) {
		t.Errorf("guests: %+v", guests)
	}
	if got := peek(); got.Code != "refused" || !strings.Contains(got.Message, "spent") {
		t.Errorf("with a grant that is used up: %+v", got)
	}
	w.bob.mustCall(t, "node-guestbook", "invite", map[string]any{"to": w.alice.id}, &grant)
	w.alice.mustCall(t, "node-guestbook", "peek", at, nil)
	w.bob.mustCall(t, "node-guestbook", "close", grant, nil)
	if got := peek(); got.Code != "refused" {
		t.Errorf("after its end: %+v", got)
	}
	// What fails within a function for another agent is told as of a receive.
	w.bob.mustCall(t, "node-faults", "grant", map[string]any{"kind": "unrestricted", "functions": []string{"ask", "echo"},
		"rate": map[string]int{"n": 100, "per": 1000}, "maxPayload": 1000}, nil)
	got := w.alice.fails(t, "node-faults", "ask", `{"to":"`+w.bob.id+`","name":"ask","value":{"to":"`+w.alice.id+`","name":"echo","value":1}}`)
	if got.Code != "handler_failed" || got.HandlerCode != "refused" || got.Side != "remote_handler" {
		t.Errorf("an inner call that is refused: %+v", got)
	}
	if got := w.alice.fails(t, "node-faults", "ask", `{"to":"`+w.bob.id+`","name":"echo","value":"`+strings.Repeat("x", 1000)+`"}`); got.Code != "too_large" {
		t.Errorf("above the grant's size: %+v", got)
	}
	var claim map[string]any
	w.bob.mustCall(t, "node-faults", "grant", map[string]any{"kind": "transferable"}, &claim)
	if claim["grantor"] != w.bob.id || claim["secret"] == nil {
		t.Errorf("the claim is %v", claim)
	}
	for _, grant := range []string{`{}`, `{"kind":"assigned"}`, `{"kind":"transferable","agents":["` + w.bob.id + `"]}`, `{"kind":"unrestricted","functions":["A"]}`,
		`{"kind":"unrestricted","functions":["a","a"]}`, `{"kind":"unrestricted","uses":-1}`, `{"kind":"unrestricted","uses":1.5}`, `{"kind":"unrestricted","expires":1}`,
		`{"kind":"unrestricted","rate":{"n":1}}`, `{"kind":"unrestricted","maxPayload":4294967296}`} {
		if got := w.alice.fails(t, "node-faults", "grant", grant); got.HandlerCode != "parley.input" || got.Side != "handler" {
			t.Errorf("a grant that can't be, %s: %+v", grant, got)
		}
	}
}

// validate: an agent refuses what another one let pass.
func (w *world) validate(t *testing.T) {
	for _, text := range []string{"valid", "not valid"} {
		var record, found string
		w.alice.mustCall(t, "node-faults", "publish", text, nil)
		w.alice.mustCall(t, "node-faults", "published", nil, &record)
		w.alice.mustCall(t, "node-faults", "find", record, &found)
		if found != text {
			t.Errorf("alice's own: %q, want %q", found, text)
		}
		var err error
		w.bob.until(t, "the entry", func() bool {
			err = w.bob.call("node-faults", "find", record, &found)
			return err == nil || !strings.Contains(err.Error(), "parley.not_found")
		})
		if refused := err != nil && strings.Contains(err.Error(), "parley.validate"); (err == nil) != (text == "valid") || refused != (text != "valid") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func (w *world) errors(t *testing.T) {
	for _, c := range []struct {
		function, input string
		want            failure
	}{
		{"sign", `{"to":"` + w.bob.id + `","text":""}`, failure{Code: "handler_failed", HandlerCode: "guestbook.empty", Side: "remote_handler", Delivered: "yes", Retry: true}},
		{"sign", `{"to":"agent1x","text":"a"}`, failure{Code: "handler_failed", HandlerCode: "parley.input", Side: "handler", Delivered: "no", Retry: true}},
		{"sign", ``, failure{Code: "handler_failed", HandlerCode: "parley.input", Side: "handler", Delivered: "no", Retry: true}},
		{"burn", ``, failure{Code: "no_handler", Side: "node", Delivered: "no", Retry: true}},
	} {
		got := w.alice.fails(t, "node-guestbook", c.function, c.input)
		got.Message = ""
		if got != c.want {
			t.Errorf("%s of %s: %+v, want %+v", c.function, c.input, got, c.want)
		}
	}
	// What a stranger may send: few bytes that would be many objects, and depth.
	for _, bytes := range []string{"\xdc\xff\xff" + strings.Repeat("\x80", 0xffff), strings.Repeat("\x91", 40) + "\xc0", "\xdb\xff\xff\xff\xff", "\xc1"} {
		if got := w.alice.fails(t, "node-faults", "echo", bytes, "--raw"); got.HandlerCode != "parley.input" {
			t.Errorf("%.10q: %+v", bytes, got)
		}
	}
	// No agent of that key is there, and the error crosses as it is.
	nobody := "agent1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0sgct4nq"
	if got := w.alice.fails(t, "node-guestbook", "sign", `{"to":"`+nobody+`","text":"a"}`); got.Code != "unknown_agent" || got.Side != "node" {
		t.Errorf("%+v", got)
	}
	if n := w.bob.records(t, "node-guestbook", "guest"); n != 1 {
		t.Errorf("bob's chain holds %d guests", n)
	}
}

func (w *world) faults(t *testing.T) {
	for function, code := range map[string]string{"throws": "", "cyclic": "parley.output", "reserved": "parley.commit", "lone": "faults.\ufffd"} {
		if got := w.alice.fails(t, "node-faults", function, ""); got.Code != "handler_failed" || got.HandlerCode != code || got.Side != "handler" && code != "parley.commit" {
			t.Errorf("%s: %+v", function, got)
		}
	}
	w.alice.mustCall(t, "node-faults", "forgets", nil, nil)
	if n := w.alice.records(t, "node-faults", "forgotten"); n != 1 {
		t.Errorf("%d entries of a commit that nobody waited for", n)
	}
	w.alice.until(t, "its line in the log", func() bool { return w.alice.logs("nobody waits ") })
	var told []any
	w.alice.mustCall(t, "node-faults", "properties", nil, &told)
	if got := fmt.Sprint(told); !strings.HasPrefix(got, "["+w.alice.id+" "+w.alice.id+" dna1") || !strings.HasSuffix(got, "map[list:[1 2] motto:hej]]") {
		t.Errorf("%s", got)
	}
	value := []any{nil, true, -1.5, float64(1 << 40), "å", map[string]any{"a": []any{}}}
	var back []any
	w.alice.mustCall(t, "node-faults", "echo", value, &back)
	if fmt.Sprint(back) != fmt.Sprint(value) {
		t.Errorf("%v came back as %v", value, back)
	}
}

func (w *world) deadlines(t *testing.T) {
	if got := w.alice.fails(t, "node-faults", "stall", "", "--timeout", "300ms"); got.Code != "timeout" {
		t.Errorf("%+v", got)
	}
	w.alice.until(t, "the line of a call that was given up", func() bool { return w.alice.logs("given up: ") })
	if n := w.alice.records(t, "node-faults", "stalled"); n != 0 {
		t.Errorf("%d entries of a call that failed", n)
	}
	var got []string
	w.alice.mustCall(t, "node-faults", "impatient", map[string]any{"to": w.bob.id, "ms": 200}, &got)
	if fmt.Sprint(got) != "[TimeoutError timeout still here]" {
		t.Errorf("%v", got)
	}
}

// large sends texts that travel in pieces through every part of the contract.
func (w *world) large(t *testing.T) {
	text := strings.Repeat("lång text ", 1<<20/11)
	w.alice.mustCall(t, "node-guestbook", "sign", note{w.bob.id, text}, nil)
	var guests []guest
	w.bob.mustCall(t, "node-guestbook", "read", nil, &guests)
	if len(guests) != 2 || guests[1].Text != text {
		t.Errorf("%d guests", len(guests))
	}
	var same int
	w.alice.mustCall(t, "node-faults", "many", map[string]any{"to": w.bob.id, "n": 8, "bytes": 3 << 20}, &same)
	if same != 8 {
		t.Errorf("%d of 8 messages of 3 MiB came back as they were", same)
	}
	if got := w.alice.fails(t, "node-faults", "many", `{"to":"`+w.bob.id+`","n":1,"bytes":`+fmt.Sprint(17<<20)+`}`); got.Code != "too_large" || got.Delivered != "no" {
		t.Errorf("%+v", got)
	}
}

func (w *world) concurrent(t *testing.T) {
	before := w.bob.records(t, "node-guestbook", "guest")
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			from, to := w.alice, w.bob
			if i%4 == 0 {
				from, to = to, from
			}
			if err := from.call("node-guestbook", "sign", note{to.id, fmt.Sprintf("page %d", i)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := w.bob.records(t, "node-guestbook", "guest"); got != before+75 {
		t.Errorf("%d guests of bob's, want %d", got, before+75)
	}
	// More at once than a call may have open.
	var same int
	w.alice.mustCall(t, "node-faults", "many", map[string]any{"to": w.bob.id, "n": 200, "bytes": 1000}, &same)
	if same != 200 {
		t.Errorf("%d of 200 messages came back as they were", same)
	}
}

func (w *world) sandbox(t *testing.T) {
	var sees struct {
		Network, File, Child string
		PID                  int
		CWD                  bool
	}
	w.alice.mustCall(t, "node-faults", "sees", filepath.Join(w.alice.data, "agent.key"), &sees)
	t.Logf("%+v", sees)
	if strings.HasPrefix(sees.Child, "socket:") || !sees.CWD {
		t.Errorf("%+v", sees)
	}
	status := w.alice.ok(t, "plugin", "status", "faults")
	if strings.Contains(status, "network-namespace: on") && sees.Network != "ENETUNREACH" && sees.Network != "EACCES" && sees.Network != "EPERM" {
		t.Errorf("network: %s", sees.Network)
	}
	if strings.Contains(status, "landlock-files: on") && sees.File != "EACCES" {
		t.Errorf("the agent's key: %s", sees.File)
	}
}

// swap replaces a bundle under calls.
func (w *world) swap(t *testing.T) {
	was := w.bob.plugin("guestbook")
	var stop atomic.Bool
	var calls, failed atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				calls.Add(1)
				if err := w.alice.call("node-guestbook", "sign", note{w.bob.id, "during a swap"}, nil); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	w.bob.drop(t, filepath.Join(w.dist, "guestbook"), "guestbook", "\n// another build\n")
	w.bob.until(t, "the other build", func() bool {
		p := w.bob.plugin("guestbook")
		return p.SHA256 != was.SHA256 && p.State == "running" && p.Generation == was.Generation+1
	})
	swapped := calls.Load()
	w.bob.until(t, "calls after it", func() bool { return calls.Load() > swapped+20 })
	stop.Store(true)
	all.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

func (w *world) crash(t *testing.T) {
	was := w.alice.plugin("faults")
	waiting := make(chan failure, 1)
	go func() {
		_, errOut, _ := w.alice.command("", "call", "node-faults", "stall", "--json")
		var e struct{ Error failure }
		_ = json.Unmarshal([]byte(errOut), &e)
		waiting <- e.Error
	}()
	w.alice.until(t, "the call to run", func() bool { return w.alice.plugin("faults").InFlight == 1 })
	if got := w.alice.fails(t, "node-faults", "die", ""); got.Code != "handler_crashed" || got.Side != "handler" || !got.Retry {
		t.Errorf("%+v", got)
	}
	if got := <-waiting; got.Code != "handler_crashed" {
		t.Errorf("a call beside it: %+v", got)
	}
	w.alice.mustCall(t, "node-faults", "echo", 1, nil) // waits for the restart
	if p := w.alice.plugin("faults"); p.PID == was.PID || p.State != "running" {
		t.Errorf("%+v, before %+v", p, was)
	}
	if n := w.alice.records(t, "node-faults", "stalled"); n != 0 {
		t.Errorf("%d entries of a call that crashed", n)
	}
}
