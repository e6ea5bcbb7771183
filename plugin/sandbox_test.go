package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/plugin/internal/sandbox"
	"github.com/parley-p2p/parley/sdk"
)

// attack is what a handler tries when it is asked to: "WHAT TARGET".
func attack(payload string) ([]byte, error) {
	what, target, _ := strings.Cut(payload, " ")
	pid, _ := strconv.Atoi(target)
	var err error
	switch what {
	case "read":
		_, err = os.ReadFile(target)
	case "write":
		err = os.WriteFile(target, []byte("x"), 0o600)
	case "tcp", "udp", "unix":
		var c net.Conn
		if c, err = net.Dial(what, target); err == nil {
			_, err = c.Write([]byte("x"))
			_ = c.Close()
		}
	case "signal":
		err = unix.Kill(pid, 0)
	case "environ":
		_, err = os.ReadFile("/proc/" + target + "/environ")
	case "memory":
		return nil, blowUp()
	case "children": // each of a part
		return nil, blowUpIn(4)
	}
	if err != nil {
		return nil, sdk.Fail("test.stopped", "%v", err)
	}
	return []byte("done"), nil
}

// blowUp takes 1 GiB, bit by bit.
func blowUp() error {
	var all [][]byte
	for range 256 {
		b, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	return fmt.Errorf("took %d times 4 MiB", len(all))
}

func blowUpIn(n int) error {
	for range n {
		cmd := exec.Command("/bin/sh", "-c", `x=$(head -c 50000000 /dev/zero | tr '\0' x); sleep 1000`)
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	select {}
}

// targets are what handlers of a test attack: this process is the node.
func targets(t *testing.T) map[string]string {
	t.Helper()
	dir := shortDir(t)
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	control, err := net.Listen("unix", filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = tcp.Close(), udp.Close(), control.Close() })
	me := strconv.Itoa(os.Getpid())
	return map[string]string{"read": key, "write": filepath.Join(dir, "new"), "tcp": tcp.Addr().String(), "udp": udp.LocalAddr().String(),
		"unix": control.Addr().String(), "signal": me, "environ": me}
}

// stoppers are the layers of which one is enough.
var stoppers = map[string][]sandbox.Layer{
	"read": {sandbox.Files}, "write": {sandbox.Files}, "tcp": {sandbox.Net, sandbox.Ports, sandbox.Calls},
	"udp": {sandbox.Net, sandbox.Calls}, "unix": {sandbox.Calls}, "signal": {sandbox.PID, sandbox.Scope},
	"environ": {sandbox.PID, sandbox.Files},
}

func hasLayer(s HandlerStatus, any ...sandbox.Layer) bool {
	return slices.ContainsFunc(s.Sandbox, func(l Layer) bool {
		return l.State == LayerOn && slices.Contains(any, sandbox.Layer(l.Name))
	})
}

// A handler gets nowhere, and with the sandbox off it does: the attacks are real.
func TestSandboxStops(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	at := targets(t)
	for _, mode := range []SandboxMode{SandboxOff, SandboxAuto} {
		n := startNode(t, Config{Dir: place(t, "alpha.ok"), Sandbox: mode})
		h := n.handler(t, "alpha")
		for what, target := range at {
			out, err := h.Serve(ctx, &testHost{}, call("attack", what+" "+target))
			switch {
			case mode == SandboxOff && err != nil:
				t.Errorf("%s does not work without a sandbox either: %v", what, err)
			case mode == SandboxOff:
				if what == "write" {
					_ = os.Remove(target)
				}
			case !hasLayer(h.status(), stoppers[what]...):
				t.Logf("%s: this machine has none of the layers %v", what, stoppers[what])
			case err == nil:
				t.Errorf("%s was not stopped: %s", what, out)
			default:
				t.Logf("%s: %v", what, err)
			}
		}
		if s := h.status(); s.Restarts != 0 || len(s.Sandbox) != len(portable)+len(sandbox.All)+2 {
			t.Errorf("%d restarts, layers %+v", s.Restarts, s.Sandbox)
		}
		n.stop()
	}
}

// Memory is bounded, in one process and in many, and the status says what for.
func TestMemoryBounded(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"memory", "children"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			n := startNode(t, Config{Dir: place(t, "alpha.ok"), Memory: 128 << 20})
			h := n.handler(t, "alpha")
			_, err := h.Serve(ctx, &testHost{}, call("attack", how))
			wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			if _, err := h.Serve(ctx, &testHost{}, call("echo", "")); err != nil { // by the next process
				t.Error(err)
			}
			if s := h.status(); !strings.Contains(s.LastError, "memory limit of 128 MiB") {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// What a handler needs and has not is said in words for the settings; with the
// grant it runs, and has it.
func TestGrants(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	at := targets(t)
	dir := filepath.Dir(at["read"])
	bare := startNode(t, Config{Dir: place(t, "alpha.needs"), Env: []string{"TEST_NEEDS=network read:" + dir}})
	if s := bare.Status()[0]; s.State != StateRejected || s.PID != 0 ||
		!strings.Contains(s.LastError, `under [handler."alpha.needs"]: grant = ["network", "read:`+dir+`"]`) {
		t.Errorf("without the grants: %+v", s)
	}
	n := startNode(t, Config{Dir: place(t, "alpha.needs"), Env: []string{"TEST_NEEDS=network read:" + dir},
		Grants: map[string][]string{"alpha.needs": {"network", "read:" + dir, "memory:2147483648"}}})
	h := n.handler(t, "alpha")
	for _, what := range []string{"read", "tcp", "udp"} {
		if _, err := h.Serve(ctx, &testHost{}, call("attack", what+" "+at[what])); err != nil {
			t.Errorf("%s is granted: %v", what, err)
		}
	}
	s := h.status()
	if hasLayer(s, sandbox.Files) {
		if _, err := h.Serve(ctx, &testHost{}, call("attack", "write "+at["write"])); err == nil {
			t.Error("a granted reader could write")
		}
	}
	text := fmt.Sprint(s.Sandbox)
	for _, want := range []string{"{memory on 2048 MiB", "granted to read: " + dir, "{network-namespace granted network}"} {
		if !strings.Contains(text, want) && hasLayer(s, sandbox.Files, sandbox.User) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	gone := startNode(t, Config{Dir: place(t, "alpha.ok"), Grants: map[string][]string{"alpha.ok": {"read:/no/such/place"}}})
	if s := gone.Status()[0]; s.State != StateRejected || !strings.Contains(s.LastError, "/no/such/place") {
		t.Errorf("a path that is not there: %+v", s)
	}
}

// In strict mode a layer that is missing keeps handlers from starting.
func TestStrict(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), Sandbox: SandboxStrict})
	s := n.Status()[0]
	if missing := n.Manager.cfg.confine.missing(); missing == nil && s.State != StateRunning {
		t.Errorf("nothing is missing, but %s: %s", s.State, s.LastError)
	} else if missing != nil && (s.State != StateRejected || s.LastError != missing.Error()) {
		t.Errorf("%v, but %s: %s", missing, s.State, s.LastError)
	}
	c := &confiner{cfg: &Config{Sandbox: SandboxStrict}, kernel: &sandbox.Kernel{Results: []sandbox.Result{{Layer: sandbox.Net, Detail: "no luck"}}}}
	if err := c.missing(); err == nil || !strings.Contains(err.Error(), "network-namespace (no luck)") {
		t.Errorf("missing: %v", err)
	}
}

// A script is run by its interpreter, which the sandbox lets it have.
func TestScript(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir, work := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, filepath.Join(dir, "alpha.ok"))
	script := "#!/bin/bash\nhead -c 1 /dev/urandom >/dev/null && ls /usr >/dev/null && echo kept >> \"$HOME/note\" || exit 9\nexec -a alpha.ok " +
		filepath.Join(dir, "alpha.ok") + "\n"
	only := t.TempDir()
	if err := os.WriteFile(filepath.Join(only, "script"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{Dir: only, StateDir: work, Grants: map[string][]string{"script": {"read:" + dir}}})
	if _, err := n.handler(t, "alpha").Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(work, "work", "script", "note")); err != nil {
		t.Error(err)
	}
}

// A hardened node starts its handlers as before. The flag is of the process, so
// the node is one of its own.
func TestHardened(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.CommandContext(ctx, self, place(t, "alpha.ok"), shortDir(t))
	host.Args[0] = "node.hardhost"
	host.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, err = fmt.Fscan(out, &pid)
	tracing := tracingDenied(host.Process.Pid)
	_ = host.Process.Kill()
	_ = host.Wait()
	if err != nil || pid == 0 {
		t.Fatalf("pid of the handler: %d, %v", pid, err)
	}
	waitDead(ctx, t, pid)
	if os.Geteuid() != 0 && !tracing {
		t.Error("its environment can be read")
	}
}

func tracingDenied(pid int) bool {
	_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err != nil
}

func BenchmarkStartSandbox(b *testing.B) {
	for _, mode := range []SandboxMode{SandboxOff, SandboxAuto} {
		b.Run(string(mode), func(b *testing.B) {
			cfg := Config{Dir: place(b, "alpha.ok"), StateDir: b.TempDir(), Sandbox: mode,
				Attach: func(context.Context, *Handler, sdk.Description) (sdk.Setup, error) { return sdk.Setup{}, nil }}.withDefaults()
			spawn, stop := newSpawner(), make(chan struct{})
			done := make(chan struct{})
			go func() { defer close(done); spawn.run(stop) }()
			cfg.confine = newConfiner(&cfg, func(c *exec.Cmd) error { return spawn.do(func() error { return sandbox.Start(c) }) })
			work := b.TempDir()
			for b.Loop() {
				p, err := start(context.Background(), launch{path: filepath.Join(cfg.Dir, "alpha.ok"), name: "alpha.ok", workDir: work,
					socketDir: shortDir(b), maxPayload: cfg.MaxPayload, timeout: cfg.StartTimeout, probeEvery: cfg.probeEvery,
					spawn: spawn, confine: cfg.confine, out: newOutputs(cfg.Log)})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				p.kill(errors.New("done"))
				b.StartTimer()
			}
			close(stop)
			<-done
		})
	}
}
