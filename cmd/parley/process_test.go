package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/cmd/parley/internal/demo"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// The test binary is parley itself when this variable is set.
const beParley = "PARLEY_TEST_BE_PARLEY"

// noDWARF halves the linking of what the tests build, which nobody debugs.
const noDWARF = "-ldflags=-w"

func TestMain(m *testing.M) {
	if os.Getenv(beParley) != "" {
		main()
		return
	}
	os.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" "+noDWARF)
	code := m.Run()
	for _, p := range []*plugins{&auction, &board, &presenceDNA} {
		if err := p.remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if left := children(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "processes left after all tests:", left)
		code = 1
	}
	os.Exit(code)
}

// children are the child processes of this one that have not been waited for.
func children() string {
	var all []string
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err == nil && strings.TrimSpace(string(b)) != "" {
			all = append(all, strings.TrimSpace(string(b)))
		}
	}
	return strings.Join(all, " ")
}

// plugins is a plugin directory with one handler, built once.
type plugins struct {
	pkg  string // of the module
	once sync.Once
	dir  string
	err  error
}

var (
	auction     = plugins{pkg: "/examples/auction"}
	board       = plugins{pkg: "/cmd/parley/testdata/board"}
	presenceDNA = plugins{pkg: "/examples/presence"}
)

func auctionPlugins(t *testing.T) string { return auction.build(t) }

func (p *plugins) build(t *testing.T) string {
	t.Helper()
	p.once.Do(func() {
		p.dir, p.err = os.MkdirTemp("", "parley-test-plugins-")
		if p.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", filepath.Join(p.dir, filepath.Base(p.pkg)), module+p.pkg).CombinedOutput()
		if err != nil {
			p.err = fmt.Errorf("go build: %w: %s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.dir
}

func (p *plugins) remove() error {
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// parley is a command to run this binary as parley.
func parley(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), beParley+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

// cmdIn runs a command in this process, with input.
func cmdIn(in string, args ...string) result {
	var out, errOut bytes.Buffer
	code := run(args, strings.NewReader(in), &out, &errOut)
	return result{out.String(), errOut.String(), code}
}

func cmd(args ...string) result { return cmdIn("", args...) }

// runParley runs a command in a process of its own.
func runParley(t *testing.T, args ...string) (r result) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := parley(args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// ok fails the test unless the command succeeded, and returns what it printed.
func (r result) ok(t *testing.T) string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	return r.out
}

// okJSON reads what a command printed with --json.
func okJSON[T any](t *testing.T, r result) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.ok(t)), &v); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	return v
}

// runningNode is a process of parley run.
type runningNode struct {
	t      *testing.T
	data   string
	peer   string // AGENT@HOST:PORT
	cmd    *exec.Cmd
	events chan string // value of "msg" of each line it logs; closed at its end
	ended  chan struct{}
	err    error // of Wait; written before ended is closed

	mu  sync.Mutex // guards log
	log strings.Builder
}

// newData makes a data directory, with settings if there are any.
func newData(t *testing.T, settings string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	cmd("init", "--data", dir).ok(t)
	if settings != "" {
		if err := os.WriteFile(filepath.Join(dir, settingsFile), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// startNode starts a node that ends with the test, and waits until it is ready.
func startNode(t *testing.T, data string, args ...string) *runningNode {
	t.Helper()
	n := &runningNode{t: t, data: data, events: make(chan string, 1000), ended: make(chan struct{})}
	n.cmd = parley(append([]string{"run", "--data", data, "--listen", "127.0.0.1:0", "--log-json"}, args...)...)
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go n.follow(stderr, ready)
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			n.mu.Lock()
			defer n.mu.Unlock()
			t.Logf("log of %s:\n%s", n.data, n.log.String())
		}
	})
	select {
	case n.peer = <-ready:
	case <-n.ended:
		t.Fatalf("the node ended: %v", n.err)
	}
	return n
}

func (n *runningNode) follow(stderr io.Reader, ready chan<- string) {
	defer close(n.ended)
	defer close(n.events)
	r := bufio.NewReader(stderr)
	for {
		text, err := r.ReadString('\n')
		n.mu.Lock()
		n.log.WriteString(text)
		n.mu.Unlock()
		var line struct{ Event, Peer, Msg string }
		if json.Unmarshal([]byte(text), &line) == nil {
			select {
			case n.events <- line.Msg:
			default: // nobody waits for that many
			}
			if line.Event == demo.ReadyEvent {
				ready <- line.Peer
			}
		}
		if err != nil {
			break
		}
	}
	n.err = n.cmd.Wait()
}

// stop ends the node in order; nodes that a test has ended itself are fine.
func (n *runningNode) stop() {
	select {
	case <-n.ended:
	default:
		n.signal(syscall.SIGTERM)
		<-n.ended
		if n.err != nil {
			n.t.Errorf("parley run after SIGTERM: %v", n.err)
		}
	}
}

func (n *runningNode) signal(s os.Signal) {
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Error(err)
	}
}

func (n *runningNode) agent() sdk.AgentID {
	text, _, _ := strings.Cut(n.peer, "@")
	id, err := sdk.ParseAgentID(text)
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

// awaitCall waits until the auction's handler of the node runs a call, and
// returns its process.
func (n *runningNode) awaitCall(ctx context.Context) int {
	n.t.Helper()
	c, err := control.Dial(n.data)
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	for {
		s, err := c.Status(ctx)
		if err != nil {
			n.t.Fatal(err)
		}
		if len(s.Handlers) == 1 && s.Handlers[0].InFlight > 0 {
			return s.Handlers[0].PID
		}
	}
}

// await waits until the node's status is such.
func (n *runningNode) await(what string, is func(*control.Status) bool) {
	n.t.Helper()
	c, err := control.Dial(n.data)
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	var s control.Status
	eventually(n.t, what, func() (bool, any) {
		if s, err = c.Status(n.t.Context()); err != nil {
			n.t.Fatal(err)
		}
		return is(&s), s
	})
}

// eventually looks at another process, which tells nobody when it changes, until it
// is as it should be; what it saw last is shown where that takes a minute.
func eventually(t *testing.T, what string, look func() (so bool, seen any)) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		so, seen := look()
		if so {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not so after a minute: %s: %+v", what, seen)
		}
	}
}
