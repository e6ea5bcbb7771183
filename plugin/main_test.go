package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// The test binary is also every handler of the tests: a copy of it, called
// "<dna>.<behaviour>" or "<dna>.<behaviour>-<anything>", behaves so.
func TestMain(m *testing.M) {
	if dna, behaviour, ok := strings.Cut(filepath.Base(os.Args[0]), "."); ok && behaviour != "test" {
		behaviour, _, _ = strings.Cut(behaviour, "-") // files of one DNA
		os.Exit(behave(dna, behaviour))
	}
	files := openFileCount()
	code := m.Run()
	if left := leaks(files); left != "" && code == 0 {
		fmt.Fprintln(os.Stderr, "left behind by the tests:\n"+left)
		code = 1
	}
	os.Exit(code)
}

func behave(dna, behaviour string) int {
	switch behaviour {
	case "ok":
		serve.Main(&testHandler{dna: dna})
	case "v": // as the binary's last line says
		return behaveVersion(dna)
	case "needs":
		serve.Main(&testHandler{dna: dna, needs: strings.Fields(os.Getenv("TEST_NEEDS"))})
	case "hardhost":
		if err := Harden(); err != nil {
			return 1
		}
		return hostMain(os.Args[1], os.Args[2])
	case "frames":
		return frameServer(os.Args[1])
	case "host":
		return hostMain(os.Args[1], os.Args[2])
	case "slow": // waits for the test
		f, err := os.Open(os.Getenv("TEST_GATE"))
		if err != nil {
			return 1
		}
		_, _ = f.Read(make([]byte, 1))
		serve.Main(&testHandler{dna: dna})
	case "exit":
		fmt.Fprintln(os.Stderr, "nothing to do here")
		return 3
	case "silent": // never answers
		select {}
	case "spam": // prints on stdout for ever
		for {
			fmt.Println("all work and no play")
		}
	case "chatty": // prints before the handshake
		fmt.Println("hello, here I am")
		fmt.Println(strings.Repeat("x", 20_000))
		serve.Main(&testHandler{dna: dna})
	case "panics":
		panic("no luck today")
	case "foreign": // another plugin system's handshake
		fmt.Println("1|7|tcp|127.0.0.1:1|netrpc|")
		select {}
	case "elsewhere": // sends its node to another socket
		fmt.Println("1|1|unix|/tmp/somebody-elses.sock|grpc|")
		select {}
	case "refuses":
		serve.Main(&testHandler{dna: dna, setupErr: sdk.Fail("test.setup", "not on a Friday")})
	case "badname":
		serve.Main(&testHandler{dna: "No Such Name"})
	case "frozen": // stops itself before it answers Describe
		serve.Main(&testHandler{dna: dna, describe: func() { selfSignal(syscall.SIGSTOP) }})
	}
	return 1
}

// born tells a process from those before it.
var born = time.Now().UnixNano()

// testHandler is a handler whose functions go wrong in every way.
type testHandler struct {
	dna      string
	setupErr error
	describe func()
	setup    sdk.Setup
	version  string
	needs    []string
}

var testFunctions = []string{"abort", "attack", "big", "commit", "echo", "env", "exit", "fds", "flood", "forget", "fork", "freeze", "kill",
	"get", "late", "log", "panic", "parallel", "pid", "query", "send", "setup", "shortsend", "stdio", "stuck", "version", "wait"}

func (h *testHandler) Describe(context.Context) (sdk.Description, error) {
	if h.describe != nil {
		h.describe()
	}
	d := sdk.Description{Name: h.dna, Integrity: "1", Functions: testFunctions, Receives: true, Needs: h.needs}
	switch h.version {
	case "another":
		d.Name = "another"
	case "integrity":
		d.Integrity = "2"
	case "drops":
		d.Functions = testFunctions[1:]
	case "deaf":
		d.Receives = false
	case "more":
		d.Functions = append(slices.Clone(testFunctions), "zzz")
	}
	return d, nil
}

func (h *testHandler) Setup(_ context.Context, s sdk.Setup) error {
	h.setup = s
	return h.setupErr
}

func (h *testHandler) Serve(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
	if c.Kind == sdk.CallReceive {
		return append([]byte("got "), c.Payload...), nil
	}
	switch c.Function {
	case "echo":
		if h.version == "crash" {
			os.Exit(9)
		}
		return c.Payload, nil
	case "version", "zzz":
		return []byte(h.version), nil
	case "send":
		return host.Send(ctx, sdk.Message{To: c.From, Payload: c.Payload})
	case "commit":
		hash, err := host.Commit(ctx, sdk.Entry{Type: "note", Visibility: sdk.Public, Content: c.Payload})
		return hash[:], err
	case "query":
		rs, err := host.Query(ctx, sdk.Query{Type: "note", Limit: 7, Reverse: true})
		return []byte(fmt.Sprint(len(rs))), err
	case "get":
		within, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		r, err := host.Get(within, sdk.Hash(append(c.Payload, make([]byte, 32)...)))
		return r.Content, err
	case "parallel":
		return h.parallel(ctx, host, c)
	case "setup":
		return append(append(h.setup.Agent[:], h.setup.DNA[:]...), h.setup.Properties...), nil
	case "attack":
		return attack(string(c.Payload))
	case "pid": // with the time: in a PID namespace of its own each one is 1
		return []byte(fmt.Sprint(os.Getpid(), born)), nil
	case "wait", "stuck":
		if string(c.Payload) == "send" { // not limited, as the log is
			_, _ = host.Send(ctx, sdk.Message{To: c.From})
		}
		host.Log(ctx, slog.LevelInfo, "waiting")
		switch {
		case c.Function == "stuck" && string(c.Payload) == "spin":
			for range 2 * runtime.NumCPU() {
				go func() {
					for n := 0; ; n++ {
						_ = n
					}
				}()
			}
			select {}
		case c.Function == "stuck":
			select {}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.misbehave(ctx, host, c)
}

func (h *testHandler) parallel(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
	var wg sync.WaitGroup
	replies, errs := make([][]byte, 100), make([]error, 100)
	for i := range replies {
		wg.Go(func() {
			replies[i], errs[i] = host.Send(ctx, sdk.Message{To: c.From, Payload: fmt.Appendf(nil, "%d", i)})
		})
	}
	wg.Wait()
	for i, r := range replies {
		if string(r) != fmt.Sprintf("reply to %d", i) && errs[i] == nil {
			errs[i] = fmt.Errorf("reply %d is %q", i, r)
		}
	}
	return nil, errors.Join(errs...)
}

func (h *testHandler) misbehave(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
	switch c.Function {
	case "panic":
		panic("over the edge")
	case "abort": // a panic that nobody recovers
		go func() { panic("nobody catches me") }()
		select {}
	case "exit":
		os.Exit(7)
	case "kill":
		selfSignal(syscall.SIGKILL)
	case "freeze":
		_, _ = host.Send(ctx, sdk.Message{To: c.From})
		selfSignal(syscall.SIGSTOP)
	case "fork":
		return h.fork(string(c.Payload) == "setsid")
	case "stdio":
		fmt.Println("by fmt")
		return nil, errors.Join(writeFD(1, append([]byte(strings.Repeat("y", 70_000)), '\n')), writeFD(2, c.Payload))
	case "flood":
		return nil, writeFD(2, []byte(strings.Repeat("all work and no play makes Jack a dull boy\n", 200_000)))
	case "log":
		host.Log(ctx, slog.LevelWarn, string(c.Payload), "n", 7)
	case "big":
		return make([]byte, 2<<20), nil
	case "late": // a callback after the end of the call
		go func() {
			<-ctx.Done()
			_, err := host.Send(context.Background(), sdk.Message{To: c.From, Payload: []byte("late")})
			slog.Error("late send", "error", err)
		}()
	case "forget": // callbacks that nobody waits for
		for range 10 {
			go func() { _, _ = host.Send(ctx, sdk.Message{To: c.From, Payload: []byte("forgotten")}) }()
		}
		_, err := host.Send(ctx, sdk.Message{To: c.From, Payload: []byte("hold")})
		return nil, err
	case "shortsend":
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		return host.Send(short, sdk.Message{To: c.From, Payload: []byte("hold")})
	case "env":
		return []byte(strings.Join(os.Environ(), "\n")), nil
	case "fds":
		return openFiles()
	}
	return nil, nil
}

// writeFD writes to a raw descriptor, past whatever os.Stdout is by now.
func writeFD(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err != nil && err != syscall.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// fork starts a child that holds this process's pipes.
func (h *testHandler) fork(setsid bool) ([]byte, error) {
	cmd := exec.Command("/bin/sleep", "1000")
	out, err := syscall.Dup(1)
	errOut, err2 := syscall.Dup(2)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	stdout, stderr := os.NewFile(uintptr(out), "stdout"), os.NewFile(uintptr(errOut), "stderr")
	defer stdout.Close()
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: setsid}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return []byte(fmt.Sprint(cmd.Process.Pid)), nil
}

func openFiles() ([]byte, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil {
			out = append(out, e.Name()+" "+to)
		}
	}
	return []byte(strings.Join(out, "\n")), nil
}

// testHost is a node as a call sees it.
type testHost struct {
	sdk.Host // nil: nothing else is called
	send     func(context.Context, []byte) ([]byte, error)
	logs     func(slog.Level, string, ...any)
	stage    func(*sdk.Entry) error // nil: the entries that testHandler commits
	notify   func(sdk.Notice) error
}

func (h *testHost) Notify(_ context.Context, n sdk.Notice) ([]error, error) {
	return nil, h.notify(n)
}

func (h *testHost) Send(ctx context.Context, m sdk.Message) ([]byte, error) {
	p := m.Payload
	if h.send != nil {
		return h.send(ctx, p)
	}
	return append([]byte("reply to "), p...), nil
}

func (h *testHost) Commit(_ context.Context, e sdk.Entry) (sdk.Hash, error) {
	if h.stage != nil {
		return sdk.EntryHash(e.Content), h.stage(&e)
	}
	if e.Type != "note" || e.Visibility != sdk.Public {
		return sdk.Hash{}, fmt.Errorf("entry %+v", e)
	}
	return sdk.EntryHash(e.Content), nil
}

func (h *testHost) Query(_ context.Context, q sdk.Query) ([]sdk.Record, error) {
	if q != (sdk.Query{Type: "note", Limit: 7, Reverse: true}) {
		return nil, fmt.Errorf("query %+v", q)
	}
	r := sdk.Record{Header: sdk.Header{Version: sdk.HeaderVersion, Kind: sdk.KindEntry, EntryType: "note", Time: time.Unix(1, 0)}}
	return []sdk.Record{r, r, r}, nil
}

func (h *testHost) Get(ctx context.Context, record sdk.Hash) (sdk.Record, error) {
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > time.Minute { // what the handler says is left
		return sdk.Record{}, fmt.Errorf("a deadline of %s, %t", d, ok)
	}
	r := sdk.Record{Header: sdk.Header{Version: sdk.HeaderVersion, Kind: sdk.KindEntry, EntryType: "note", Visibility: sdk.Public, Time: time.Unix(1, 0)},
		Content: record[:]}
	if record == (sdk.Hash{}) {
		r.Header.Visibility = sdk.Private // no host's answer
	}
	return r, nil
}

func (h *testHost) Log(_ context.Context, l slog.Level, text string, args ...any) {
	if h.logs != nil {
		h.logs(l, text, args...)
	}
}

// testNode runs a Manager over a directory of handlers.
type testNode struct {
	*Manager
	dir      string
	mu       sync.Mutex
	handlers map[string]*Handler // by DNA name
	detached []string
	events   []Event
	news     chan struct{} // closed at each event, and replaced
	stop     func()        // ends Run and waits
}

// testContext bounds a test: a failure bound, nothing waits for it.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// place puts copies of the test binary into a new directory.
func place(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		// A hard link would change the inode that all of them share: to every
		// directory that is watched, its file would be another one.
		if err := os.Symlink(self, filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyFile copies a file that is executed then: no process may be forked that
// would hold it open for writing.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := openCopy(t, from, to).Close(); err != nil {
		t.Fatal(err)
	}
}

func openCopy(t testing.TB, from, to string) *os.File {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return out
}

// startNode runs a Manager until the test ends and waits until it is ready.
func startNode(t testing.TB, cfg Config) *testNode {
	t.Helper()
	n := newNode(t, cfg)
	select {
	case <-n.Ready():
	case <-testContext(t).Done():
		t.Fatalf("not ready; status %+v", n.Status())
	}
	return n
}

func newNode(t testing.TB, cfg Config) *testNode {
	t.Helper()
	n := &testNode{dir: cfg.Dir, handlers: map[string]*Handler{}, news: make(chan struct{})}
	if cfg.StateDir == "" {
		cfg.StateDir = t.TempDir()
	}
	if cfg.Attach == nil {
		cfg.Attach = n.attach
	}
	cfg.Detach = n.detach
	cfg.Event = n.event
	// On a busy machine everything takes its time. Tests of a limit set their own.
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = time.Minute
	}
	if cfg.RestartWait == 0 {
		cfg.RestartWait = time.Minute
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = time.Minute
	}
	if cfg.settle == 0 {
		cfg.settle = 10 * time.Millisecond
	}
	cfg.Env = append(cfg.Env, "GORACE=atexit_sleep_ms=0")
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Manager = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

var testAgent, testDNA = sdk.AgentID{1, 2, 3}, sdk.DNAHash{4, 5, 6}

func (n *testNode) attach(_ context.Context, h *Handler, d sdk.Description) (sdk.Setup, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if other := n.handlers[d.Name]; other != nil {
		return sdk.Setup{}, fmt.Errorf("%w: DNA %q is %s already", ErrTaken, d.Name, other.File())
	}
	n.handlers[d.Name] = h
	return sdk.Setup{Agent: testAgent, DNA: testDNA, Properties: []byte("props")}, nil
}

func (n *testNode) detach(h *Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.detached = append(n.detached, h.Description().Name)
	delete(n.handlers, h.Description().Name)
}

func (n *testNode) event(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	close(n.news)
	n.news = make(chan struct{})
}

// await waits for the next event of the kind that nobody has waited for yet.
func (n *testNode) await(t testing.TB, kind EventKind) Event {
	t.Helper()
	ctx := testContext(t)
	for {
		n.mu.Lock()
		for i, e := range n.events {
			if e.Kind == kind {
				n.events = append(n.events[:i:i], n.events[i+1:]...)
				n.mu.Unlock()
				return e
			}
		}
		news, have := n.news, n.events
		n.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("no event %q; there are %+v; status %+v", kind, have, n.Status())
		}
	}
}

func (n *testNode) handler(t testing.TB, dna string) *Handler {
	t.Helper()
	n.mu.Lock()
	h := n.handlers[dna]
	n.mu.Unlock()
	if h == nil {
		t.Fatalf("DNA %q is not up: %+v", dna, n.Status())
	}
	return h
}

func call(function, payload string) *sdk.Call {
	return &sdk.Call{Kind: sdk.CallFunction, Function: function, From: testAgent, ID: sdk.MessageID{9}, Payload: []byte(payload)}
}
