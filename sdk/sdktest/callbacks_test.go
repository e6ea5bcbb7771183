package sdktest_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// copies is a DNA whose agents copy their notes to whoever is named in them,
// after the commit.
func copies(parts ...sdk.Part) *sdk.Definition {
	return sdk.Define("copies", "1", append(parts,
		sdk.Function("note", func(c *sdk.Context, to sdk.AgentID) (sdk.None, error) {
			_, err := c.Commit("note", to)
			return sdk.None{}, err
		}),
		sdk.PostCommit(func(c *sdk.Context, records []sdk.Record) error {
			for _, r := range records {
				var to sdk.AgentID
				if r.Header.EntryType != "note" {
					continue
				}
				if err := sdk.Unmarshal(r.Content, &to); err != nil {
					return err
				}
				if _, err := sdk.Send[sdk.None](c, to, r.Header.Seq); err != nil {
					return err
				}
			}
			return nil
		}),
		sdk.Receive(func(c *sdk.Context, seq uint64) (sdk.None, error) {
			_, err := c.Commit("copy", seq)
			return sdk.None{}, err
		}))...)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", copies()), net.Node("bob", copies())
	for range 50 {
		if _, err := sdktest.Call[sdk.None](alice, "note", bob.ID()); err != nil {
			t.Fatal(err)
		}
	}
	net.Settle()
	got := sdktest.Entries[uint64](bob, "copy")
	if len(got) != 50 || !slices.IsSorted(got) {
		t.Errorf("bob has %d", got)
	}
}

func TestPostCommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int32]int{0: 1, 4: 1, 5: 0, 99: 0} {
		var tries atomic.Int32
		net := sdktest.New(t)
		note := sdk.Function("note", func(c *sdk.Context, _ sdk.None) (sdk.None, error) {
			_, err := c.Commit("note", "x")
			return sdk.None{}, err
		})
		alice := net.Node("alice", sdk.Define("x", "1", note, sdk.PostCommit(func(c *sdk.Context, records []sdk.Record) error {
			if records[0].Header.EntryType != "note" {
				return nil
			}
			if tries.Add(1) <= failures {
				return errors.New("not yet")
			}
			_, err := c.Commit("done", "x")
			return err
		})))
		if _, err := sdktest.Call[sdk.None](alice, "note", sdk.None{}); err != nil {
			t.Fatal(err)
		}
		net.Settle()
		if got := len(sdktest.Entries[string](alice, "done")); got != want || tries.Load() != min(failures+1, sdk.PostCommitTries) {
			t.Errorf("%d failures: %d entries after %d tries", failures, got, tries.Load())
		}
	}
}

// What is committed while a node is stopped in its post_commit is told of later.
func TestPostCommitOfAStoppedNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		net := sdktest.New(t)
		note := sdk.Function("note", func(c *sdk.Context, _ sdk.None) (sdk.None, error) {
			_, err := c.Commit("note", "x")
			return sdk.None{}, err
		})
		alice := net.Node("alice", sdk.Define("x", "1", note, sdk.PostCommit(func(c *sdk.Context, _ []sdk.Record) error {
			if ran.Add(1) == 1 {
				<-c.Done()
			}
			return c.Err()
		})))
		if _, err := sdktest.Call[sdk.None](alice, "note", sdk.None{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		net.Stop(alice)
		net.Settle() // leaves it out
		synctest.Wait()
		if ran.Load() != 1 {
			t.Errorf("it ran %d times", ran.Load())
		}
		net.Start(alice)
		net.Settle()
		if ran.Load() != 2 {
			t.Errorf("it ran %d times", ran.Load())
		}
	})
}

func TestInitInTheNet(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	bob := net.Node("bob", copies())
	fails := true
	var self error
	dna := copies(sdk.Init(func(c *sdk.Context) error {
		_, self = sdk.Send[sdk.None](c, c.Agent(), 7)
		if _, err := sdk.Send[sdk.None](c, bob.ID(), 7); err != nil {
			return err
		}
		if _, err := c.Commit("note", bob.ID()); err != nil || !fails {
			return err
		}
		return sdk.Fail("copies.told", "as told")
	}))
	_, err := net.TryNode("alice", dna)
	if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != "copies.told" || !strings.Contains(err.Error(), "node alice: init") || !errors.Is(self, sdk.Busy) {
		t.Fatalf("got %v; to itself: %v", err, self)
	}
	fails = false
	alice := net.Node("alice", dna)
	net.Settle()
	var types []string
	for _, r := range alice.Chain() {
		types = append(types, r.Header.EntryType)
	}
	if !slices.Equal(types, []string{"parley.genesis", "note", "parley.init"}) {
		t.Errorf("alice's chain holds %q", types)
	}
	if got := sdktest.Entries[uint64](bob, "copy"); !slices.Equal(got, []uint64{7, 7, 1}) {
		t.Errorf("bob has %d", got)
	}
}

func TestValidateInTheNet(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	dna := sdk.Define("x", "1",
		sdk.Function("note", func(c *sdk.Context, s string) (sdk.None, error) {
			_, err := c.Commit("note", s)
			return sdk.None{}, err
		}),
		sdk.Validate(func(e *sdk.Candidate) error {
			var s string
			if err := e.Decode(&s); err != nil {
				return err
			}
			if e.Own && s != "mine" || !e.Own && (s != "theirs" || e.Author != sdktest.ID("bob")) {
				return errors.New("no")
			}
			return nil
		}))
	alice, bob := net.Node("alice", dna), net.Node("bob", dna)
	invalid := func(err error) bool {
		e, ok := errors.AsType[*sdk.Error](err)
		return ok && e.HandlerCode == sdk.HandlerCodeValidate
	}
	if _, err := sdktest.Call[sdk.None](alice, "note", "theirs"); !invalid(err) || len(alice.Chain()) != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := sdktest.Call[sdk.None](alice, "note", "mine"); err != nil {
		t.Error(err)
	}
	if err := alice.Validate(bob, "note", "theirs"); err != nil {
		t.Error(err)
	}
	for _, v := range []any{"mine", 5} {
		if err := alice.Validate(bob, "note", v); !invalid(err) {
			t.Errorf("%v: %v", v, err)
		}
	}
	if len(bob.Chain()) != 1 {
		t.Error("what is judged was committed")
	}
}
