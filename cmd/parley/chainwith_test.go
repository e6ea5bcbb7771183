package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// receiptDNA says something to another agent, with a receipt.
func receiptDNA() *sdk.Definition {
	return sdk.Define("receipts", "1",
		sdk.Function("say", func(c *sdk.Context, to sdk.AgentID) (string, error) {
			return sdk.Send[string](c, to, "hello", sdk.WithReceipt())
		}),
		sdk.Receive(func(_ *sdk.Context, text string) (string, error) { return text + " yourself", nil }))
}

func startReceiptNode(t *testing.T, dir string, bootstrap ...node.Peer) *node.Node {
	t.Helper()
	n, err := node.New(node.Config{DataDir: dir, Listen: "127.0.0.1:0", Bootstrap: bootstrap, Handlers: []sdk.Handler{receiptDNA()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := n.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestVerifyWith: two files, without a node; then the running node against a file.
func TestVerifyWith(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "with") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bob := startReceiptNode(t, filepath.Join(dir, "b"))
	alice := startReceiptNode(t, filepath.Join(dir, "a"), node.Peer{Agent: bob.Agent(), Host: bob.Addr().String()})
	say := func() {
		t.Helper()
		in, err := sdk.Marshal(bob.Agent())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Call(t.Context(), "receipts", "say", in); err != nil {
			t.Fatal(err)
		}
	}
	export := func(n *node.Node, name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := writeWhole(path, func(w io.Writer) error {
			return n.ExportChain(t.Context(), "receipts", control.ExportOptions{Receipts: true}, w)
		}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	say()
	a, b := export(alice, "alice.chain"), export(bob, "bob.chain")
	command := func(args ...string) (string, int) {
		t.Helper()
		var out, errs strings.Builder
		code := run(args, strings.NewReader(""), &out, &errs)
		return out.String() + errs.String(), code
	}
	if text, code := command("chain", "verify", a, "--with", b); code != 0 || !strings.Contains(text, "1 exchanges on both, 0 only on a") || !strings.Contains(text, alice.Agent().Short()) {
		t.Errorf("exit code %d: %s", code, text)
	}
	say()
	if text, code := command("chain", "verify", "receipts", "--with", b, "--data", filepath.Join(dir, "a")); code != exitFailed || !strings.Contains(text, "1 only on the first chain") {
		t.Errorf("exit code %d: %s", code, text)
	}
	text, code := command("chain", "verify", "--file", export(alice, "later.chain"), "--with", b, "--json")
	var m control.MatchResult
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&m); err != nil || code != exitFailed || m.Matched != 1 || m.OnlyA != 1 || len(m.Exchanges) != 2 {
		t.Errorf("exit code %d: %v: %s", code, err, text)
	}
	if text, code := command("chain", "show", "receipts", "--type", sdk.TypeReceipt, "--data", filepath.Join(dir, "b")); code != 0 || strings.Count(text, "message ") < 2 {
		t.Errorf("exit code %d: %s", code, text)
	}
	if text, code := command("delegation", "list", "receipts", "--data", filepath.Join(dir, "b"), "--json"); code != 0 || strings.TrimSpace(text) != "[]" {
		t.Errorf("exit code %d: %s", code, text)
	}
	if text, code := command("delegation", "revoke", "receipts", sdk.Hash{1}.String(), "--data", filepath.Join(dir, "b")); code == 0 || !strings.Contains(text, "no delegation") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

// TestDelegationShow: the proofs of the vectors.
func TestDelegationShow(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../../sdk/testdata/delegations.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Name, Proof string }
	if err := json.Unmarshal(file, &cases); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(cases[0].Proof)
	if err != nil {
		t.Fatal(err)
	}
	for form, in := range map[string]string{"hexadecimal": cases[0].Proof + "\n", "raw": string(raw), "base64": base64.StdEncoding.EncodeToString(raw) + "\n"} {
		var out strings.Builder
		c := &cli{in: strings.NewReader(in), out: &out}
		cmd := c.delegationShowCommand()
		_ = cmd.RunE(cmd, []string{"-"}) // the vectors are of one day in 2027
		for _, want := range []string{"functions bid,look, messages yes, depth 2", "uses 100, rate 10 in 1m0s, payload 1000", "\n3  hash1"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in %s", form, want, out.String())
			}
		}
	}
}
