package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the program in the sandbox: called "attack" it tries
// what its environment says, and prints "done" or why not.
func TestMain(m *testing.M) {
	if os.Args[0] == "attack" {
		if err := attack(os.Getenv("ATTACK"), os.Getenv("TARGET")); err != nil {
			fmt.Println("stopped:", err)
			os.Exit(1)
		}
		fmt.Println("done")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func attack(what, target string) error {
	pid, _ := strconv.Atoi(target)
	switch what {
	case "exe": // what runs, and whether it can be changed
		link, err := os.Readlink("/proc/self/exe")
		fmt.Println(link)
		if f, err := os.OpenFile("/proc/self/exe", os.O_WRONLY, 0); err == nil {
			return errors.Join(errors.New("it can be written to"), f.Close())
		}
		return err
	case "read":
		_, err := os.ReadFile(target)
		return err
	case "write":
		return os.WriteFile(target, []byte("x"), 0o600)
	case "tcp", "unix", "udp":
		c, err := net.Dial(what, target)
		if err == nil {
			_, err = c.Write([]byte("x"))
			_ = c.Close()
		}
		return err
	case "unixgram":
		return unixgram(target)
	case "socketpair":
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return err
	case "signal":
		return unix.Kill(pid, 0)
	case "ptrace":
		return unix.PtraceSeize(pid)
	case "memory":
		f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err == nil {
			_ = f.Close()
		}
		return err
	case "userns":
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = Attr()
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		return cmd.Run()
	case "iouring":
		_, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
		if e == unix.EPERM {
			return e
		}
		return nil // refused for its arguments only
	case "setuid":
		out, err := exec.Command(target, "-u").CombinedOutput()
		if s := strings.TrimSpace(string(out)); s != "0" {
			return fmt.Errorf("user %s, %w", s, errors.Join(err, unix.EPERM))
		}
		return nil
	case "hostname": // what a capability allows
		return unix.Sethostname([]byte("x"))
	case "files":
		for range 200 {
			if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
				return err
			}
		}
		return nil
	case "forks":
		return forks()
	case "status":
		b, err := os.ReadFile("/proc/self/status")
		fmt.Printf("%s\npid %d\n", b, os.Getpid())
		return err
	}
	return fmt.Errorf("no attack is called %q", what)
}

func unixgram(target string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: target})
}

// forks starts processes until it can't.
func forks() error {
	var all []*exec.Cmd
	defer func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	for range 700 {
		c := exec.Command("/bin/sleep", "1000")
		if err := c.Start(); err != nil {
			return err
		}
		all = append(all, c)
	}
	return nil
}

var kernel = sync.OnceValue(func() *Kernel { return Probe(Start) })

func works(t *testing.T, l Layer) {
	t.Helper()
	for _, r := range kernel().Results {
		if r.Layer == l && !r.On {
			t.Skipf("%s: %s", l, r.Detail)
		}
	}
}

// run runs the attack in the sandbox and gives what it printed.
func run(t *testing.T, s Spec, what, target string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.Path, s.Name, s.ABI = exe, "attack", kernel().ABI
	cmd, err := Command(&s, []string{"ATTACK=" + what, "TARGET=" + target, "GORACE=atexit_sleep_ms=0", "PATH=/usr/bin:/bin"}, "/")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	return out.String(), err
}

// Each attack works without the layer, and does not with that layer alone.
func TestEachLayer(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sb") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	tcp, udp, sock := listen(t, dir)
	me := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		what, target string
		by           []Layer // each of them alone, with what it needs
		root         bool    // only a root can do it
	}{
		{"read", key, []Layer{Files}, false},
		{"write", filepath.Join(dir, "new"), []Layer{Files}, false},
		{"tcp", tcp, []Layer{Net, Ports, Calls}, false},
		{"udp", udp, []Layer{Net, Calls}, false},
		{"unix", sock, []Layer{Calls}, false},
		{"unixgram", sock + "gram", []Layer{Calls}, false},
		{"socketpair", "", []Layer{Calls}, false},
		{"signal", me, []Layer{PID, Scope}, false},
		{"ptrace", me, []Layer{PID, Calls, Files, User}, false},
		{"memory", me, []Layer{PID, Files, User}, false},
		{"userns", "", []Layer{Calls}, false},
		{"iouring", "", []Layer{Calls}, false},
		{"hostname", "", []Layer{Capabilities, User, Calls}, true},
		{"files", "", []Layer{Limits}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			if c.root && os.Geteuid() != 0 {
				t.Skip("not a root's test")
			}
			if c.what != "hostname" { // it would be this machine's
				if out, err := run(t, Spec{}, c.what, c.target); err != nil {
					t.Skipf("it does not work without a sandbox either: %s", out)
				}
			}
			for _, l := range c.by {
				t.Run(string(l), func(t *testing.T) {
					t.Parallel()
					out, err := run(t, Spec{Layers: alone(t, l), OpenFiles: 100, Read: []string{"/dev", "/proc"}}, c.what, c.target)
					if err == nil || !strings.HasPrefix(out, "stopped:") {
						t.Errorf("not stopped: %s %v", out, err)
					}
					t.Logf("%s", strings.TrimSpace(out))
				})
			}
		})
	}
}

// alone is a layer with those that it can't be put on without.
func alone(t *testing.T, l Layer) (layers []Layer) {
	works(t, l)
	switch l {
	case Net, IPC, PID:
		works(t, User)
		layers = append(layers, User)
	case Files, Ports, Scope, Calls:
		layers = append(layers, NoNewPrivs)
	}
	return append(layers, l)
}

// listen listens in every way, until the test ends.
func listen(t *testing.T, dir string) (tcp, udp, path string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "sock")
	s, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := net.ListenPacket("unixgram", path+"gram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _, _ = l.Close(), u.Close(), s.Close(), g.Close() })
	return l.Addr().String(), u.LocalAddr().String(), path
}

// With every layer a program runs, as itself, and has nothing.
func TestAllLayers(t *testing.T) {
	t.Parallel()
	all := kernel().Works()
	out, err := run(t, Spec{Layers: all, OpenFiles: 100, Processes: 500}, "status", "")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []struct {
		layer Layer
		line  string
	}{
		{Capabilities, "CapEff:\t0000000000000000"}, {Capabilities, "CapPrm:\t0000000000000000"},
		{Capabilities, "CapAmb:\t0000000000000000"}, {NoNewPrivs, "NoNewPrivs:\t1"}, {Calls, "Seccomp:\t2"},
		{PID, "\npid 1\n"},
	} {
		if slices.Contains(all, want.layer) && !strings.Contains(out, want.line) {
			t.Errorf("%s: no %q in\n%s", want.layer, want.line, out)
		}
	}
	for _, r := range kernel().Results {
		t.Logf("%-18s %-5v %s", r.Layer, r.On, r.Detail)
	}
}

// A setuid program gives nothing.
func TestSetuid(t *testing.T) {
	t.Parallel()
	works(t, NoNewPrivs)
	if os.Geteuid() == 0 {
		t.Skip("a root has nothing to gain")
	}
	target := os.Getenv("TEST_SETUID_ID") // a copy of id(1), root's, mode 4755
	if target == "" {
		t.Skip("TEST_SETUID_ID names no setuid program")
	}
	if out, err := run(t, Spec{}, "setuid", target); err != nil {
		t.Fatalf("it does not work without a sandbox either: %s", out)
	}
	for _, l := range []Layer{NoNewPrivs, User} {
		if out, err := run(t, Spec{Layers: alone(t, l)}, "setuid", target); err == nil {
			t.Errorf("%s: not stopped: %s", l, out)
		}
	}
}

// Processes are bounded: a user's by RLIMIT_NPROC in a user namespace, anybody's
// by the PID namespace.
func TestForksBounded(t *testing.T) {
	t.Parallel()
	layers := []Layer{User, Limits}
	if os.Geteuid() == 0 {
		layers = []Layer{User, PID}
		if !ownPIDMax() {
			t.Skip("before Linux 6.14 a root's processes are bounded by a cgroup only")
		}
	}
	for _, l := range layers {
		works(t, l)
	}
	out, err := run(t, Spec{Layers: layers, Processes: 200, OpenFiles: 4096}, "forks", "")
	if err == nil || !strings.Contains(out, "resource temporarily unavailable") {
		t.Errorf("not stopped: %s %v", out, err)
	}
}

// What can't be put on ends the process before the program.
func TestFailsClosed(t *testing.T) {
	t.Parallel()
	exe, _ := os.Executable()
	s := Spec{Path: exe, Name: "attack", Layers: []Layer{Files}, ABI: 99}
	cmd, err := Command(&s, []string{"ATTACK=read", "TARGET=/dev/null"}, "/")
	if err != nil {
		t.Fatal(err)
	}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != ExitFailed || !strings.Contains(string(b), "layer landlock-files") {
		t.Errorf("%v: %s", err, b)
	}
	if strings.Contains(string(b), "done") {
		t.Errorf("the program ran: %s", b)
	}
}

// What the shim adds to the start of a program that does nothing.
func BenchmarkStart(b *testing.B) {
	k := kernel()
	for name, layers := range map[string][]Layer{"bare": nil, "all": k.Works()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd, err := Command(&Spec{Path: "/bin/true", Name: "true", Layers: layers, ABI: k.ABI, Processes: 500, OpenFiles: 100}, nil, "/")
				if err != nil {
					b.Fatal(err)
				}
				if err := Start(cmd); err != nil {
					b.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
