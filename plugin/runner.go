package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/plugin/internal/sandbox"
)

// procRunner starts and ends one handler process. It takes the place of
// go-plugin's own runner, whose ways to hang or kill the host are listed in
// docs/handlers.md:
//
//   - the process leads a session and group of its own, and the whole group is killed;
//   - it dies with this process (Pdeathsig);
//   - its stdout and stderr are read here, bounded, to the end; go-plugin gets
//     the handshake line and an empty stderr, and never waits for a grandchild
//     that holds a pipe.
type procRunner struct {
	spawn *spawner
	out   *outputs
	// handshake is go-plugin's view of stdout.
	handshake  *io.PipeReader
	handshakeW *io.PipeWriter

	// Set by prepare, before Start.
	cmd       *exec.Cmd
	path      string // of the program
	socketDir string // the only place where the handler's socket may be
	limit     uint64 // of its memory in bytes; 0 is none
	group     *sandbox.Group

	over   chan struct{} // closed when the process is reaped
	exited chan struct{} // closed when the process is reaped and its output read

	mu      sync.Mutex
	calls   net.Conn // our end of the call socket, until takeCalls
	started bool
	reaped  bool
	killed  bool  // by us
	reason  error // why
	state   *os.ProcessState
}

var _ runner.Runner = (*procRunner)(nil)

// newProcRunner makes a runner that can be told to kill before it has anything
// to start; prepare says what it is to start.
func newProcRunner(s *spawner, out *outputs) *procRunner {
	r, w := io.Pipe()
	return &procRunner{spawn: s, out: out, handshake: r, handshakeW: w,
		over: make(chan struct{}), exited: make(chan struct{})}
}

func (r *procRunner) prepare(c *confined, socketDir string) {
	r.cmd, r.path, r.limit, r.group, r.socketDir = c.cmd, c.path, c.memory, c.group, socketDir
}

// Start starts the process. Its goroutines end with the process.
func (r *procRunner) Start(context.Context) error {
	stdout, stdoutW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", r.Name(), err), r.removeGroup())
	}
	stderr, stderrW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", r.Name(), err), stdout.Close(), stdoutW.Close(), r.removeGroup())
	}
	calls, callsHandler, err := callSocket()
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", r.Name(), err), stdout.Close(), stdoutW.Close(), stderr.Close(), stderrW.Close(), r.removeGroup())
	}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = nil, stdoutW, stderrW
	r.cmd.ExtraFiles = []*os.File{callsHandler} // handlerpb.CallsFD
	err = r.spawn.do(r.startCmd)
	_, _, _ = stdoutW.Close(), stderrW.Close(), callsHandler.Close()
	if err != nil {
		_, _, _ = stdout.Close(), stderr.Close(), calls.Close()
		err = errors.Join(err, r.removeGroup())
		close(r.exited)
		return fmt.Errorf("start %s: %w", r.Name(), err)
	}
	r.mu.Lock()
	r.started, r.calls = true, calls
	if r.reason != nil { // told to kill while it started
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	}
	r.mu.Unlock()
	var readers sync.WaitGroup
	readers.Go(func() { r.readStdout(stdout) })
	readers.Go(func() { readAll(stderr, r.out.stderr) })
	if r.limit > 0 {
		readers.Go(func() { r.watchMemory(r.cmd.Process.Pid) })
	}
	go r.reap(&readers, stdout, stderr) // ends with the process; r.exited tells
	return nil
}

// callSocket makes the socket for the calls: our end, and the handler's.
func callSocket() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("call socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "call socket"), os.NewFile(uintptr(fds[1]), "call socket")
	defer ours.Close()
	conn, err := net.FileConn(ours) // a duplicate
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("call socket: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

// takeCalls hands our end of the call socket over, once.
func (r *procRunner) takeCalls() net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls
	r.calls = nil
	return c
}

// startCmd retries ETXTBSY: a fork of another goroutine may hold the staged
// file open for writing for a moment (golang/go#22315).
func (r *procRunner) startCmd() error {
	var err error
	for range 20 {
		if err = sandbox.Start(r.cmd); !errors.Is(err, syscall.ETXTBSY) {
			return err
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
		c := exec.Command(r.cmd.Path)
		c.Args = r.cmd.Args
		c.Env, c.Dir, c.Stdout, c.Stderr, c.SysProcAttr = r.cmd.Env, r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr, r.cmd.SysProcAttr
		c.ExtraFiles = r.cmd.ExtraFiles
		r.cmd = c
	}
	return err
}

// reap waits for the process, kills what is left of its group while the
// zombie still holds the group's id, and then lets the readers finish.
func (r *procRunner) reap(readers *sync.WaitGroup, pipes ...*os.File) {
	for {
		err := unix.Waitid(unix.P_PID, r.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	_ = r.cmd.Wait() // how it ended is in ProcessState
	r.reaped, r.state = true, r.cmd.ProcessState
	if r.group != nil && r.reason == nil && r.group.OutOfMemory() {
		r.reason = overLimit(r.limit)
	}
	r.mu.Unlock()
	close(r.over)
	_ = r.removeGroup() // what is left of it is empty, and goes with the next of its name
	for _, p := range pipes {
		_ = p.SetReadDeadline(past) // a grandchild in another group may hold the other end
	}
	readers.Wait()
	for _, p := range pipes {
		_ = p.Close()
	}
	if calls := r.takeCalls(); calls != nil { // nobody came for it
		_ = calls.Close()
	}
	r.out.close()
	_ = r.handshakeW.Close()
	close(r.exited)
}

// removeGroup ends whatever is left in the process's cgroup.
func (r *procRunner) removeGroup() error {
	if r.group == nil {
		return nil
	}
	return r.group.Remove()
}

// readStdout passes the handshake line on and the rest to the log.
func (r *procRunner) readStdout(f *os.File) {
	h := &handshakeFinder{pass: r.handshakeW, rest: r.out.stdout, giveUp: r.killFor}
	readAll(f, h)
	h.end()
}

// Kill ends the process group at once.
func (r *procRunner) Kill(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started || r.reaped {
		return nil
	}
	r.killed = true
	err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// killFor is Kill with the reason that is shown.
func (r *procRunner) killFor(reason error) {
	r.mu.Lock()
	if r.reason == nil {
		r.reason = reason
	}
	r.mu.Unlock()
	_ = r.Kill(context.Background())
}

// why says how the process ended. It is called after exited was closed.
func (r *procRunner) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	detail := r.out.lastWords()
	switch {
	case r.reason != nil:
		return r.reason
	case r.state == nil:
		return errors.New("the process did not start")
	case detail != "":
		return fmt.Errorf("the process ended: %s: %s", r.state, detail)
	}
	return fmt.Errorf("the process ended: %s", r.state)
}

// endedByItself tells whether the process ended and nobody had killed it.
func (r *procRunner) endedByItself() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reaped && !r.killed && r.reason == nil
}

func (r *procRunner) killReason() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}

func (r *procRunner) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started || r.reaped {
		return 0
	}
	return r.cmd.Process.Pid
}

// Wait waits for the end of the process and of its output.
func (r *procRunner) Wait(ctx context.Context) error {
	select {
	case <-r.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Diagnose, Stdout, Stderr, Name, ID and the translators are go-plugin's view.
func (r *procRunner) Diagnose(context.Context) string { return "" }
func (r *procRunner) Stdout() io.ReadCloser           { return r.handshake }
func (r *procRunner) Stderr() io.ReadCloser           { return emptyReader{} }
func (r *procRunner) Name() string                    { return r.path }

func (r *procRunner) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// PluginToHost refuses addresses other than a socket in the directory that the
// handler was given: it must not send its node to somebody else's socket.
func (r *procRunner) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(addr)) != filepath.Clean(r.socketDir) {
		return "", "", fmt.Errorf("the handler gave the address %s %q; only a unix socket in its own directory is allowed", network, addr)
	}
	return network, addr, nil
}

func (r *procRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyReader) Close() error             { return nil }
