package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// remotePlugins is a plugin directory with testdata/remote.
func remotePlugins(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "remote"), "./testdata/remote").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return dir
}

// noteAt has one node's handler call a function of the other's agent.
func noteAt(at, to *runningNode) result {
	return cmd("call", "--data", at.data, "remote", "note_at", fmt.Sprintf("%q", to.agent()))
}

func wantCode(t *testing.T, r result, code int, text string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.err, text) {
		t.Fatalf("exit code %d: %s%s\nwant %d: %s", r.code, r.out, r.err, code, text)
	}
}

// TestGrantsOfProcesses: grant, call, kill -9 and restart of the grantor's node,
// revoke, with real processes; then a claim that is passed on, and the lists.
func TestGrantsOfProcesses(t *testing.T) {
	t.Parallel()
	plugins := remotePlugins(t)
	bob := startNode(t, newData(t, ""), "--plugins", plugins)
	alice := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	wantCode(t, noteAt(alice, bob), 13, "no grant")

	made := okJSON[grantMade](t, cmd("grant", "add", "remote", "--to", alice.agent().String(), "--function", "note", "--uses", "3", "--expires", "1h", "--data", bob.data, "--json"))
	if out := noteAt(alice, bob).ok(t); !strings.Contains(out, alice.agent().String()) {
		t.Errorf("bob's function was called by %s", out)
	}
	eventually(t, "the holder's node is told, in the background", func() (bool, any) {
		list := okJSON[[]control.Claim](t, cmd("claim", "list", "remote", "--data", alice.data, "--json"))
		return len(list) == 1 && list[0].Grant == made.Grant && list[0].Grantor == bob.agent() && list[0].Told, list
	})

	bob.signal(syscall.SIGKILL)
	<-bob.ended
	_, address, _ := strings.Cut(bob.peer, "@")
	bob = startNode(t, bob.data, "--plugins", plugins, "--listen", address, "--bootstrap", alice.peer)
	list := okJSON[[]control.Grant](t, cmd("grant", "list", "remote", "--data", bob.data, "--json"))
	if len(list) != 1 || list[0].ID != made.Grant || list[0].Used != 1 || list[0].Uses != 3 || list[0].Expires.IsZero() {
		t.Fatalf("after kill -9: %+v", list)
	}
	noteAt(alice, bob).ok(t)
	if out := cmd("grant", "list", "remote", "--data", bob.data).ok(t); !strings.Contains(out, "2 of 3") || !strings.Contains(out, made.Grant.String()) {
		t.Errorf("grant list:\n%s", out)
	}
	cmd("grant", "revoke", "remote", made.Grant.String(), "--data", bob.data).ok(t)
	wantCode(t, noteAt(alice, bob), 13, "revoked")
	wantCode(t, cmd("grant", "revoke", "remote", sdk.Hash{1}.String(), "--data", bob.data), 19, "no grant")
	if out := cmd("chain", "show", "remote", "--data", bob.data).ok(t); !strings.Contains(out, "parley.grant") || !strings.Contains(out, "parley.revoked") ||
		!strings.Contains(out, "function from "+alice.agent().Short()) || !strings.Contains(out, "operator") {
		t.Errorf("bob's chain:\n%s", out)
	}
	if r := okJSON[map[string]any](t, cmd("chain", "verify", "remote", "--data", bob.data, "--json")); r["valid"] != true {
		t.Errorf("bob's chain: %v", r)
	}

	// A claim that is passed on.
	passed := okJSON[grantMade](t, cmd("grant", "add", "remote", "--transferable", "--function", "note", "--rate", "100/1m", "--data", bob.data, "--json"))
	wantCode(t, noteAt(alice, bob), 13, "")
	cmdIn(passed.Claim+"\n", "claim", "add", "remote", "-", "--data", alice.data).ok(t)
	noteAt(alice, bob).ok(t)
	if out := cmd("claim", "list", "remote", "--data", alice.data).ok(t); !strings.Contains(out, passed.Grant.String()) || !strings.Contains(out, "added") || strings.Contains(out, passed.Claim[80:140]) {
		t.Errorf("claim list:\n%s", out)
	}
	cmd("claim", "remove", "remote", passed.Grant.String(), "--data", alice.data).ok(t)
	wantCode(t, noteAt(alice, bob), 13, "")

	// What the handler grants by itself; then the lists.
	cmd("call", "--data", bob.data, "remote", "befriend", fmt.Sprintf("%q", alice.agent())).ok(t)
	noteAt(alice, bob).ok(t)
	cmd("block", "add", alice.agent().String(), "--data", bob.data).ok(t)
	wantCode(t, noteAt(alice, bob), 13, "blocked")
	if out := cmd("block", "list", "--data", bob.data).ok(t); out != alice.agent().String()+"\n" {
		t.Errorf("block list: %q", out)
	}
	cmd("block", "remove", alice.agent().String(), "--data", bob.data).ok(t)
	cmd("allow", "add", sdk.AgentID{1}.String(), "--data", bob.data).ok(t) // and so nobody else
	wantCode(t, noteAt(alice, bob), 13, "")
	cmd("allow", "add", alice.agent().String(), "--data", bob.data).ok(t)
	noteAt(alice, bob).ok(t)
	for _, id := range []sdk.AgentID{{1}, alice.agent()} {
		cmd("allow", "remove", id.String(), "--data", bob.data).ok(t)
	}
	cmd("limits", "set", "agent-bytes", "3", "--data", bob.data).ok(t)
	wantCode(t, noteAt(alice, bob), 16, "agent-bytes")
	if out := cmd("limits", "list", "--data", bob.data).ok(t); !strings.Contains(out, "agent-bytes  3    each agent") {
		t.Errorf("limits list:\n%s", out)
	}
	cmd("limits", "reset", "--data", bob.data).ok(t)
	noteAt(alice, bob).ok(t)
	for _, n := range []*runningNode{alice, bob} {
		claim, _ := sdk.ParseClaim(passed.Claim)
		secret, _ := json.Marshal(claim.Secret)
		n.mu.Lock()
		if log := n.log.String(); strings.Contains(log, passed.Claim) || strings.Contains(log, fmt.Sprintf("%x", claim.Secret[:])) || strings.Contains(log, string(secret)) {
			t.Errorf("a log holds the secret")
		}
		n.mu.Unlock()
	}
}

func TestGrantArguments(t *testing.T) {
	t.Parallel()
	agent := sdk.AgentID{1}.String()
	for _, args := range [][]string{
		{"grant", "add", "remote"},
		{"grant", "add", "remote", "--to", agent, "--transferable"},
		{"grant", "add", "remote", "--transferable", "--unrestricted"},
		{"grant", "add", "remote", "--to", "agent1"},
		{"grant", "add", "remote", "--unrestricted", "--rate", "10"},
		{"grant", "add", "remote", "--unrestricted", "--rate", "0/1m"},
		{"grant", "add", "remote", "--unrestricted", "--rate", "1/-1m"},
		{"grant", "add", "remote", "--unrestricted", "--expires=-1h"},
		{"grant", "add", "remote", "--unrestricted", "--uses=-1"},
		{"grant", "add", "remote", "--unrestricted", "--function", "No Name"},
		{"grant", "revoke", "remote", "hash1"},
		{"claim", "add", "remote", "claim1"},
		{"claim", "remove", "remote", agent},
		{"block", "add", "someone"},
		{"block", "add"},
		{"allow", "remove", "agent1"},
		{"limits", "set", "agent-requests", "0"},
		{"limits", "set", "agent-requests", "many"},
		{"limits", "set", "max-payload", "5"},
		{"limits", "set", "agent-requests", "5", "--agent", "agent1"},
		{"limits", "reset", "all"},
	} {
		if r := cmd(append(args, "--data", t.TempDir())...); r.code != exitUsage || r.err == "" {
			t.Errorf("%q: exit code %d: %s", args, r.code, r.err)
		}
	}
	for _, args := range [][]string{{"grant", "list", "remote"}, {"claim", "list", "remote"}, {"block", "list"}, {"limits", "list"}} {
		if r := cmd(append(args, "--data", t.TempDir())...); r.code != exitNotRunning {
			t.Errorf("%q: exit code %d: %s", args, r.code, r.err)
		}
	}
	r, err := parseRate("10/1m30s")
	if err != nil || r != (sdk.Rate{N: 10, Per: 90 * time.Second}) {
		t.Errorf("%+v, %v", r, err)
	}
}
