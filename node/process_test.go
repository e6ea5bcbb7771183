package node

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
	"github.com/parley-p2p/parley/sdk/serve"
)

// The test binary is also the processes that the tests need: a handler, when it
// runs from a plugin directory's staged copy, and otherwise whatever the
// variable says.
const roleVariable = "PARLEY_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		runRole(role, os.Args[1:])
	}
	if dna := ownTrailer(); dna != "" {
		dna, version, _ := strings.Cut(dna, "/")
		serve.Main(testDNAs[dna](version))
	}
	os.Exit(checkLeaks(m))
}

func runRole(role string, args []string) {
	switch role {
	case "floor":
		floorRole(args)
	case "node":
		nodeRole(args)
	case "crowd":
		crowdRole(args)
	}
	fmt.Fprintln(os.Stderr, "unknown role", role)
	os.Exit(2)
}

// testSandbox lets a handler of the test DNA tell the tests by files what it does.
func testSandbox() Sandbox {
	files := []string{"write:" + filepath.Clean(os.TempDir())}
	return Sandbox{Grants: map[string][]string{"test": files, "callbacks": files}}
}

// nodeRole runs a node: [-advertise ADDR] [-seed SEED] [-callbacks DIR] DATA PLUGINS [BOOTSTRAP].
// It prints its peer form.
func nodeRole(args []string) {
	debug.SetGCPercent(400) // as parley run does
	flags := flag.NewFlagSet("node", flag.ExitOnError)
	advertise := flags.String("advertise", "", "the address to publish")
	seed := flags.String("seed", "", "the test DNA's network seed")
	callbacks := flags.String("callbacks", "", "the callback DNA's directory")
	flags.Parse(args)
	args = flags.Args()
	cfg := Config{DataDir: args[0], PluginDir: args[1], Listen: "127.0.0.1:0", Network: "test",
		DNAs:       map[string]DNASettings{"test": {NetworkSeed: *seed}, "callbacks": {Properties: callbackProperties(*callbacks)}},
		handlerEnv: []string{"GORACE=atexit_sleep_ms=0"},
		Sandbox:    testSandbox(),
		Log:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if *advertise != "" {
		cfg.Advertise = []netip.AddrPort{netip.MustParseAddrPort(*advertise)}
	}
	for _, b := range args[2:] {
		p, err := ParsePeer(b)
		exitOn(err)
		cfg.Bootstrap = append(cfg.Bootstrap, p)
	}
	signal.Ignore(syscall.SIGXFSZ) // a file at its limit fails like a full disk
	n, err := New(cfg)
	exitOn(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	exitOn(n.WaitReady(ctx))
	fmt.Println(Peer{Agent: n.Agent(), Host: n.Addr().String()})
	exitOn(<-ended)
	os.Exit(0)
}

// role is a process of the test binary.
type role struct {
	tb  testing.TB
	cmd *exec.Cmd
	out *bufio.Reader
}

// startRole starts a process that ends with the test.
func startRole(tb testing.TB, name string, args ...string) *role {
	tb.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	r := &role{tb: tb, cmd: cmd, out: bufio.NewReader(out)}
	tb.Cleanup(r.stop)
	return r
}

// line is the next line that the process prints.
func (r *role) line() string {
	r.tb.Helper()
	s, err := r.out.ReadString('\n')
	if err != nil {
		r.tb.Fatalf("%v: %v", r.cmd.Args[1:], err)
	}
	return strings.TrimSpace(s)
}

func (r *role) stop() {
	if r.cmd.ProcessState != nil {
		return
	}
	r.cmd.Process.Signal(syscall.SIGTERM)
	io.Copy(io.Discard, r.out)
	r.cmd.Wait()
}

// kill ends the process as kill -9 does.
func (r *role) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// testDNAs are the handlers that the test binary can be.
var testDNAs = map[string]func(version string) *sdk.Definition{
	"test":        func(string) *sdk.Definition { return testDNA() },
	"other":       func(string) *sdk.Definition { return otherDNA() },
	"conformance": func(string) *sdk.Definition { return sdktest.ConformanceDNA() },
	"hammer":      hammerDNA,
	"callbacks":   func(string) *sdk.Definition { return callbackDNA() },
	"remote":      func(string) *sdk.Definition { return benchRemoteDNA() },
}

// A copy of the test binary with this mark and a DNA's name behind its end is
// that DNA's handler: a node passes on neither environment nor file name. The
// name may be followed by a slash and a version.
const trailerMark = "\x00parley test handler:"

func ownTrailer() string {
	f, err := os.Open("/proc/self/exe")
	exitOn(err)
	defer f.Close()
	tail := make([]byte, 64)
	info, err := f.Stat()
	exitOn(err)
	_, err = f.ReadAt(tail, info.Size()-int64(len(tail)))
	exitOn(err)
	_, name, _ := strings.Cut(string(tail), trailerMark)
	return name
}

// pluginDir is a plugin directory with a handler of each of the DNAs.
func pluginDir(tb testing.TB, dnas ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		tb.Fatal(err)
	}
	for _, dna := range dnas {
		// A child that another goroutine forks meanwhile must not inherit the
		// open file: it could not be executed then (ETXTBSY).
		syscall.ForkLock.RLock()
		name, _, _ := strings.Cut(dna, "/")
		err := os.WriteFile(filepath.Join(dir, name), append(slices.Clip(binary), trailerMark+dna...), 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}
