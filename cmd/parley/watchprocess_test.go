package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// TestWatchProcesses: what Bob's notified emits, parley watch prints, as it comes and
// until it is told to end. Every node, handler and command is a process of its own.
func TestWatchProcesses(t *testing.T) {
	t.Parallel()
	plugins := presenceDNA.build(t)
	bob := startNode(t, newData(t, ""), "--plugins", plugins)
	alice := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	group := fmt.Sprintf("[%q, %q]", alice.agent(), bob.agent())
	for _, n := range []*runningNode{alice, bob} {
		runParley(t, "call", "--data", n.data, "presence", "join", group).ok(t)
	}
	tell := func(note string) {
		t.Helper()
		out := runParley(t, "call", "--data", alice.data, "presence", "tell", fmt.Sprintf(`{"mood": "here", "note": %q}`, note)).ok(t)
		if !strings.Contains(out, `"taken"`) {
			t.Errorf("bob did not take it: %s", out)
		}
	}

	text, textEnds := startWatch(t, bob)
	tell("one")
	type signal struct {
		From       sdk.AgentID
		Mood, Note string
		Came       bool
	}
	read := func(line string) (s signal) {
		t.Helper()
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		return s
	}
	if s := read(<-text); s != (signal{alice.agent(), "here", "one", true}) {
		t.Errorf("it prints %+v", s)
	}

	// A second one has nothing of before, and ends by itself.
	counted, countedEnds := startWatch(t, bob, "--json", "--count", "2")
	tell("two")
	tell("three")
	for i, note := range []string{"two", "three"} {
		var w watched
		if err := json.Unmarshal([]byte(<-counted), &w); err != nil {
			t.Fatal(err)
		}
		if s := read(string(w.Value)); w.Seq != uint64(i+2) || w.DNA != "presence" || w.Lost != 0 || s.Note != note {
			t.Errorf("signal %d: %+v, %+v", i, w.Signal, s)
		}
		if s := read(<-text); s.Note != note {
			t.Errorf("who has watched since the beginning sees %+v instead of %q", s, note)
		}
	}
	if code := countedEnds(0); code != 0 {
		t.Errorf("after --count: exit code %d", code)
	}
	if code := textEnds(syscall.SIGINT); code != 0 {
		t.Errorf("after Ctrl-C: exit code %d", code)
	}

	_, ends := startWatch(t, bob)
	bob.stop()
	if code := ends(0); code != exitNotRunning {
		t.Errorf("after the node's end: exit code %d", code)
	}
}

// startWatch starts parley watch and returns once it watches. Its lines come as they
// are printed; end sends it a signal, unless that is 0, and waits for its end.
func startWatch(t *testing.T, n *runningNode, args ...string) (lines <-chan string, end func(syscall.Signal) (code int)) {
	t.Helper()
	cmd := parley(append([]string{"watch", "--data", n.data, "presence"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed := make(chan string, 100)
	var readers sync.WaitGroup
	readers.Go(func() {
		defer close(printed)
		for r := bufio.NewScanner(stdout); r.Scan(); {
			printed <- r.Text()
		}
	})
	began := make(chan string, 1)
	readers.Go(func() {
		r := bufio.NewReader(stderr)
		first, _ := r.ReadString('\n')
		began <- first
		_, _ = io.Copy(io.Discard, r)
	})
	wait := sync.OnceFunc(func() {
		readers.Wait()
		_ = cmd.Wait() // its code says how it has ended
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		wait()
	})
	if first := <-began; first != "watching presence\n" {
		t.Fatalf("parley watch says %q", first)
	}
	return printed, func(s syscall.Signal) int {
		if s != 0 {
			if err := cmd.Process.Signal(s); err != nil {
				t.Error(err)
			}
		}
		wait()
		return cmd.ProcessState.ExitCode()
	}
}
