package sdktest_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// The DNA of docs/tutorial.md, which TestTutorialQuotes holds to this file.

type Note struct {
	To   sdk.AgentID `json:"to"`
	Text string      `json:"text"`
}

var guestbook = sdk.Define("guestbook", "1",
	sdk.Function("sign", sign),
	sdk.Function("read", read),
	sdk.Receive(receive),
)

func sign(c *sdk.Context, note Note) (sdk.None, error) {
	if _, err := sdk.Send[sdk.None](c, note.To, note.Text); err != nil {
		return sdk.None{}, err
	}
	_, err := c.Commit("signed", note)
	return sdk.None{}, err
}

type Guest struct {
	Who  sdk.AgentID `json:"who"`
	Text string      `json:"text"`
}

func receive(c *sdk.Context, text string) (sdk.None, error) {
	if len(text) > 200 {
		return sdk.None{}, sdk.Fail("guestbook.long", "%d bytes, 200 at most", len(text))
	}
	_, err := c.Commit("guest", Guest{c.From(), text})
	return sdk.None{}, err
}

func read(c *sdk.Context, _ sdk.None) ([]Guest, error) {
	guests := []Guest{}
	for r, err := range sdk.All[Guest](c, sdk.Query{Type: "guest"}) {
		if err != nil {
			return nil, err
		}
		guests = append(guests, r.Value)
	}
	return guests, nil
}

var politeGuestbook = sdk.Define("guestbook", "2",
	sdk.Function("sign", sign),
	sdk.Function("read", read),
	sdk.Receive(receive),
	sdk.Init(welcome),
	sdk.Validate(polite),
	sdk.PostCommit(announce),
)

func welcome(c *sdk.Context) error {
	_, err := c.Commit("guest", Guest{c.Agent(), "Welcome"})
	return err
}

func polite(e *sdk.Candidate) error {
	if e.Type != "guest" {
		return nil
	}
	var g Guest
	if err := e.Decode(&g); err != nil {
		return err
	}
	if g.Text == "" {
		return sdk.Fail("guestbook.empty", "a page without a word")
	}
	return nil
}

func announce(c *sdk.Context, records []sdk.Record) error {
	for _, r := range records {
		if r.Header.EntryType == "guest" {
			c.Log().Info("somebody signed", "record", r.Header.Seq)
		}
	}
	return nil
}

var board = sdk.Define("board", "1",
	sdk.Function("pin", pin),
	sdk.Function("look", look),
)

func pin(c *sdk.Context, text string) (sdk.None, error) {
	_, err := c.Commit("notice", text, sdk.AsPublic)
	return sdk.None{}, err
}

func look(c *sdk.Context, record sdk.Hash) (string, error) {
	notice, err := sdk.GetAs[string](c, record)
	return notice.Value, err
}

func TestGuestbook(t *testing.T) {
	net := sdktest.New(t)
	alice, bob := net.Node("alice", guestbook), net.Node("bob", guestbook)

	_, err := sdktest.Call[sdk.None](alice, "sign", Note{bob.ID(), "Lovely garden"})
	if err != nil {
		t.Fatal(err)
	}
	guests, err := sdktest.Call[[]Guest](bob, "read", sdk.None{})
	if err != nil || len(guests) != 1 || guests[0] != (Guest{alice.ID(), "Lovely garden"}) {
		t.Fatalf("got %v, %v", guests, err)
	}
}

func TestTooLong(t *testing.T) {
	net := sdktest.New(t)
	alice, bob := net.Node("alice", guestbook), net.Node("bob", guestbook)

	_, err := sdktest.Call[sdk.None](alice, "sign", Note{bob.ID(), strings.Repeat("x", 201)})
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != "guestbook.long" {
		t.Fatalf("got %v", err)
	}
	if n := len(alice.Chain()) + len(bob.Chain()); n != 2 {
		t.Fatalf("%d records, want the two genesis records", n)
	}
}

func TestBobIsAway(t *testing.T) {
	net := sdktest.New(t)
	alice, bob := net.Node("alice", guestbook), net.Node("bob", guestbook)
	net.Cut(alice, bob)

	_, err := sdktest.Call[sdk.None](alice, "sign", Note{bob.ID(), "Hello?"})
	if !errors.Is(err, sdk.Unreachable) {
		t.Fatalf("got %v", err)
	}
}

func TestPolite(t *testing.T) {
	net := sdktest.New(t)
	alice, bob := net.Node("alice", politeGuestbook), net.Node("bob", politeGuestbook)

	_, err := sdktest.Call[sdk.None](alice, "sign", Note{bob.ID(), ""})
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != sdk.HandlerCodeValidate {
		t.Fatalf("got %v", err)
	}
	net.Settle()
	if got := sdktest.Entries[Guest](bob, "guest"); len(got) != 1 || got[0].Text != "Welcome" {
		t.Fatalf("got %v", got)
	}
}

func TestBoard(t *testing.T) {
	net := sdktest.New(t)
	alice, bob := net.Node("alice", board), net.Node("bob", board)

	if _, err := sdktest.Call[sdk.None](alice, "pin", "Free lamps"); err != nil {
		t.Fatal(err)
	}
	record := alice.Chain()[1].Hash()
	if text, err := sdktest.Call[string](bob, "look", record); err != nil || text != "Free lamps" {
		t.Fatalf("got %q, %v", text, err)
	}
	if _, err := sdktest.Call[string](bob, "look", sdk.Hash{1}); !sdk.IsNotFound(err) {
		t.Fatalf("got %v", err)
	}
}

// TestTutorialQuotes: every block of Go in the tutorial
// stands in this file, in the same order.
func TestTutorialQuotes(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile("tutorial_test.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```go\n")[1:]
	if len(blocks) < 4 {
		t.Fatalf("%d blocks of Go", len(blocks))
	}
	rest := string(code)
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```")
		_, after, found := strings.Cut(rest, b)
		if !found {
			t.Errorf("not in this file, or not in this order:\n%s", b)
			continue
		}
		rest = after
	}
}
