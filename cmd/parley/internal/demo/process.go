package demo

import (
	"bufio"
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
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// ReadyEvent is the value of the attribute "event" in the line that parley run
// logs when other agents can find the node; "peer" is its AGENT@HOST:PORT.
const ReadyEvent = "ready"

const (
	stopTimeout = 20 * time.Second // for an orderly stop
	keptLines   = 200              // of a node's log
)

// rules are the operator's settings of all five nodes. They are part of the
// DNA's hash. A seller who thinks for a while can be killed while he thinks.
const rules = "[dna.auction]\nnetwork-seed = \"parley demo\"\nproperties = { deliberate = \"1500ms\" }\n"

// process is one node.
type process struct {
	name    string
	agent   sdk.AgentID
	peer    string // AGENT@HOST:PORT
	cmd     *exec.Cmd
	client  *control.Client
	exited  chan struct{} // closed when the process has ended and its log is read
	waitErr error         // written before exited is closed

	mu  sync.Mutex // guards log
	log []string   // the last lines
}

// start starts a node and returns when others can find it. After an error
// nothing of it runs.
func (d *demo) start(ctx context.Context, name, plugins string, bootstrap ...string) (*process, error) {
	data := filepath.Join(d.dir, name)
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(data, "parley.toml"), []byte(rules), 0o600); err != nil {
		return nil, err
	}
	args := []string{"run", "--data", data, "--plugins", plugins, "--listen", "127.0.0.1:0",
		"--network", "parley-demo", "--log-json", "--log-level", "info"}
	for _, b := range bootstrap {
		args = append(args, "--bootstrap", b)
	}
	p := &process{name: name, exited: make(chan struct{}), cmd: exec.Command(d.opts.Parley, args...)}
	p.cmd.Env = withoutSettings(os.Environ())
	// A group of its own: Ctrl-C in the terminal reaches the demo only, which
	// then stops the nodes in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	ready := make(chan string, 1)
	go p.follow(stderr, ready)
	if err := p.await(ctx, data, ready); err != nil {
		if !interrupted(ctx) {
			d.printLog(p)
		}
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), p.stop())
	}
	return p, nil
}

// withoutSettings keeps the settings of whoever runs the demo out of its nodes.
func withoutSettings(env []string) []string {
	var out []string
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); !strings.HasPrefix(name, "PARLEY_") || strings.HasPrefix(name, "PARLEY_TEST_") {
			out = append(out, e)
		}
	}
	return out
}

func (p *process) await(ctx context.Context, data string, ready <-chan string) error {
	select {
	case p.peer = <-ready:
	case <-p.exited:
		return fmt.Errorf("it ended: %w", errors.Join(errors.New("see its log"), p.waitErr))
	case <-ctx.Done():
		return ctx.Err()
	}
	text, _, _ := strings.Cut(p.peer, "@")
	var err error
	if p.agent, err = sdk.ParseAgentID(text); err != nil {
		return err
	}
	p.client, err = control.Dial(data)
	return err
}

// follow reads the log until the process ends, and tells once when it is ready.
func (p *process) follow(log io.Reader, ready chan<- string) {
	defer close(p.exited)
	lines := bufio.NewReaderSize(log, 64<<10)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			p.keep(text)
		}
		if err != nil {
			break
		}
		var line struct{ Event, Peer string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Event == ReadyEvent {
			select {
			case ready <- line.Peer:
			default:
			}
		}
	}
	p.waitErr = p.cmd.Wait()
}

func (p *process) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, strings.TrimRight(line, "\n"))
	if len(p.log) > keptLines {
		p.log = p.log[1:]
	}
}

func (p *process) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.log...)
}

// stop ends the node in order, by force if it takes too long, which is an
// error. It may be called again.
func (p *process) stop() error {
	if p.client != nil {
		p.client.Close()
	}
	select {
	case <-p.exited:
		return p.exitError()
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
		return p.exitError()
	case <-timer.C:
	}
	p.cmd.Process.Kill()
	<-p.exited
	return fmt.Errorf("%s did not stop within %s and was killed", p.name, stopTimeout)
}

func (p *process) exitError() error {
	if p.waitErr != nil {
		return fmt.Errorf("%s: %w", p.name, p.waitErr)
	}
	return nil
}
