package node

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// crowdProcess is a crowd process, seen by the test.
type crowdProcess struct {
	dir    string
	nodes  int // that it runs
	killed bool
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

// startCrowdProcess starts a process that ends with the test, however that ends:
// its input does.
func startCrowdProcess(t *testing.T, dir string) *crowdProcess {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &crowdProcess{dir: dir, cmd: exec.Command(os.Args[0], dir)}
	p.cmd.Env = append(os.Environ(), roleVariable+"=crowd", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	return p
}

// ask has a process do something. One that does not answer in time is killed.
func (c *crowd) ask(p *crowdProcess, cmd crowdCommand) (r crowdReply) {
	c.t.Helper()
	limit := time.AfterFunc(crowdAnswer, func() { p.cmd.Process.Kill() })
	defer limit.Stop()
	b, err := json.Marshal(cmd)
	if err == nil {
		_, err = p.in.Write(b)
	}
	if err == nil {
		b, err = p.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		c.t.Errorf("process %s: %v", filepath.Base(p.dir), err)
	} else if r.Err != "" {
		c.t.Errorf("process %s: %s", filepath.Base(p.dir), r.Err)
	}
	return r
}

// each does something with all processes that were not killed, at once.
func (c *crowd) each(do func(int, *crowdProcess)) {
	c.t.Helper()
	var all sync.WaitGroup
	for i, p := range c.processes {
		if !p.killed {
			all.Go(func() { do(i, p) })
		}
	}
	all.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// stop stops the processes in order. They look for what their nodes left in them
// themselves; here it is what is left of them.
func (c *crowd) stop() {
	begun := time.Now()
	c.each(func(_ int, p *crowdProcess) {
		limit := time.AfterFunc(crowdAnswer, func() { p.cmd.Process.Kill() })
		defer limit.Stop()
		p.in.Close()
		rest, err := io.ReadAll(p.out)
		if err == nil {
			err = p.cmd.Wait()
		}
		if err != nil || len(rest) > 0 {
			c.t.Errorf("process %s ended with %v; said %q", filepath.Base(p.dir), err, rest)
		}
		filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() && !e.Type().IsRegular() {
				c.t.Errorf("left behind: %s: %v, %v", path, e, err)
			}
			return nil
		})
	})
	took := time.Since(begun)
	for _, p := range c.processes {
		if !p.killed {
			continue
		}
		p.cmd.Wait()
		if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
			c.t.Errorf("process %s was to be killed: %s", filepath.Base(p.dir), p.cmd.ProcessState)
		}
	}
	c.t.Logf("stopped in order after %s", took.Round(time.Millisecond))
}

// logUse logs what the processes take of the machine for their nodes.
func (c *crowd) logUse(what string) {
	c.t.Helper()
	pages, files := 0, 0
	var use crowdUse
	for _, p := range c.processes {
		if p.killed {
			continue
		}
		u := c.ask(p, crowdCommand{Use: true}).Use
		use.Goroutines, use.Heap, use.CPU = use.Goroutines+u.Goroutines, use.Heap+u.Heap, use.CPU+u.CPU
		var size, resident int
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid)); err == nil {
			fmt.Sscan(string(b), &size, &resident)
		}
		list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		pages, files = pages+resident, files+len(list)
	}
	n := len(c.nodes)
	c.t.Logf("%s: %d MiB resident, %d descriptors, %d goroutines; of each node %.1f MiB of heap and stacks, %d descriptors, %d goroutines, %s of processor time so far",
		what, pages*os.Getpagesize()>>20, files, use.Goroutines, float64(use.Heap)/float64(n)/(1<<20), files/n, use.Goroutines/n, (use.CPU / time.Duration(n)).Round(time.Millisecond))
}

// newAgent is an agent that never was on any network.
func newAgent(t *testing.T) sdk.AgentID {
	t.Helper()
	key, err := transport.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newIdentity(key).agent
}

func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[min(int(q*float64(len(d))), len(d)-1)].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s", at(.5), at(.99), at(1))
}

// raceDetector tells whether this binary was built with it.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
