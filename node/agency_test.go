package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

const conformanceDNA = "conformance"

// step runs a step of the conformance DNA at a node.
func step(t testing.TB, n *testNode, s sdktest.Step) (r sdktest.Result, err error) {
	t.Helper()
	in, err := sdk.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.Node.Call(t.Context(), conformanceDNA, "do", in)
	if err == nil {
		err = sdk.Unmarshal(out, &r)
	}
	return r, err
}

// whoAt has n call bob's function "do", and is nil if it was let in.
func whoAt(t testing.TB, n, bob *testNode) error {
	t.Helper()
	r, err := step(t, n, sdktest.Step{Op: "remote", To: bob.Agent(), Then: &sdktest.Step{Op: "who"}})
	if err == nil && (r.From != n.Agent() || r.Agent != bob.Agent()) {
		t.Errorf("the function saw %+v", r)
	}
	return err
}

func refusedWith(t testing.TB, err error, text string) {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != sdk.Refused || e.Side != sdk.SideRemoteNode || e.Delivered != sdk.DeliveredNo || !e.Retry || !strings.Contains(e.Text, text) {
		t.Fatalf("got %v, want refused: %s", err, text)
	}
}

func addGrant(t testing.TB, n *testNode, g sdk.Grant) sdk.Claim {
	t.Helper()
	c, err := n.AddGrant(t.Context(), conformanceDNA, g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func assignedTo(agents ...sdk.AgentID) sdk.Grant {
	return sdk.Grant{Kind: sdk.GrantAssigned, Agents: agents, Functions: []string{"do"}}
}

// again starts a stopped node on its data directory.
func (w *testNetwork) again(n *testNode) *testNode {
	w.t.Helper()
	n.stop()
	cfg := n.cfg
	cfg.Handlers = []sdk.Handler{w.handler()}
	return startNode(w.t, cfg)
}

// TestGrantsLast: grants, their ends, the counts of their uses, claims, lists and
// limits are there after a restart. What the operator did has the operator as its
// cause.
func TestGrantsLast(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	alice, bob := w.start("alice"), w.start("bob")
	g := assignedTo(alice.Agent())
	g.Uses = 3
	counted := addGrant(t, bob, g)
	if err := whoAt(t, alice, bob); err != nil {
		t.Fatal(err)
	}
	passed := addGrant(t, bob, sdk.Grant{Kind: sdk.GrantTransferable, Functions: []string{"other"}})
	if err := alice.AddClaim(t.Context(), conformanceDNA, passed); err != nil {
		t.Fatal(err)
	}
	ended := addGrant(t, bob, sdk.Grant{Kind: sdk.GrantUnrestricted, Functions: []string{"other"}})
	if err := bob.RevokeGrant(t.Context(), conformanceDNA, ended.Grant); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.ChangePolicy(t.Context(), control.PolicyChange{Block: []sdk.AgentID{{9}}, Limits: []control.AgentLimit{{Name: "agent-requests", Max: 7}}}); err != nil {
		t.Fatal(err)
	}
	before, err := bob.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records, err := bob.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	operator := 0
	for _, r := range records {
		if h := r.Header; h.Cause.Kind == sdk.CallOperator && h.Cause.From == bob.Agent() && h.Visibility == sdk.Private && !h.Cause.Message.IsZero() {
			operator++
		}
	}
	if operator != 4 {
		t.Errorf("%d records are the operator's, want 3 grants and an end", operator)
	}

	bob = w.again(bob)
	list, err := bob.Grants(t.Context(), conformanceDNA)
	if err != nil || len(list) != 2 || list[0].ID != counted.Grant || list[0].Used != 1 || list[0].Uses != 3 || list[1].ID != passed.Grant {
		t.Fatalf("after a restart: %+v, %v", list, err)
	}
	for range 2 {
		if err := whoAt(t, alice, bob); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, whoAt(t, alice, bob), "spent")
	if after, err := bob.Policy(t.Context()); err != nil || fmt.Sprint(after) != fmt.Sprint(before) || len(after.Blocked) != 1 || len(after.Limits) != 1 {
		t.Errorf("lists and limits after a restart: %+v, %v", after, err)
	}
	alice = w.again(alice)
	claims, err := alice.Claims(t.Context(), conformanceDNA)
	found := false
	for _, c := range claims {
		found = found || c.Grant == passed.Grant && c.Secret && !c.Told && c.Grantor == bob.Agent()
	}
	if err != nil || !found {
		t.Errorf("claims after a restart: %+v, %v", claims, err)
	}
	if info, err := os.Stat(alice.cfg.path(agencyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", agencyFile, info.Mode(), err)
	}
}

// TestHoldersAreTold: of a grant and of its end, in the background; a receiver that
// blocks the grantor does not hear of it.
func TestHoldersAreTold(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	alice, bob, carol := w.start("alice"), w.start("bob"), w.start("carol")
	if _, err := carol.ChangePolicy(t.Context(), control.PolicyChange{Block: []sdk.AgentID{bob.Agent()}}); err != nil {
		t.Fatal(err)
	}
	holds := func(n *testNode) []control.Claim {
		list, err := n.Claims(t.Context(), conformanceDNA)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	g := assignedTo(carol.Agent(), alice.Agent())
	g.Expires = time.Now().Add(time.Hour)
	claim := addGrant(t, bob, g)
	await(t, func() bool { return len(holds(alice)) == 1 })
	if c := holds(alice)[0]; c.Grant != claim.Grant || c.Grantor != bob.Agent() || !c.Told || c.Secret || !c.Expires.Equal(claim.Expires) || len(c.Functions) != 1 {
		t.Errorf("told: %+v", c)
	}
	passed := addGrant(t, bob, sdk.Grant{Kind: sdk.GrantTransferable})
	if err := alice.AddClaim(t.Context(), conformanceDNA, passed); err != nil {
		t.Fatal(err)
	}
	if err := bob.RevokeGrant(t.Context(), conformanceDNA, claim.Grant); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return len(holds(alice)) == 1 })
	if err := whoAt(t, alice, bob); err != nil { // so bob knows that she holds it
		t.Fatal(err)
	}
	if err := bob.RevokeGrant(t.Context(), conformanceDNA, passed.Grant); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return len(holds(alice)) == 0 })
	if list := holds(carol); len(list) != 0 {
		t.Errorf("who blocks was told: %+v", list)
	}
}

// TestClaimsInTurn: a claim that is refused makes room for the next one, within
// the call.
func TestClaimsInTurn(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	alice, bob := w.start("alice"), w.start("bob")
	for _, functions := range [][]string{{"do"}, nil} {
		c := addGrant(t, bob, sdk.Grant{Kind: sdk.GrantTransferable, Functions: functions})
		if functions != nil {
			c.Secret[0] ^= 1
		}
		if err := alice.AddClaim(t.Context(), conformanceDNA, c); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := whoAt(t, alice, bob); err != nil {
			t.Fatal(err)
		}
	}
	list, err := alice.Claims(t.Context(), conformanceDNA)
	worn := 0
	for _, c := range list {
		if c.Refused != "" {
			worn++
		}
	}
	if err != nil || len(list) != 2 || worn != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestUsesAtOnce: a grant of many uses lets exactly so many in, however many come
// at once, and what is on disk is what was used.
func TestUsesAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	alice, bob := w.start("alice"), w.start("bob")
	const uses, calls = 20, 50
	g := assignedTo(alice.Agent())
	g.Uses = uses
	addGrant(t, bob, g)
	errs := make([]error, calls)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() { errs[i] = whoAt(t, alice, bob) })
	}
	wg.Wait()
	in := 0
	for _, err := range errs {
		if err == nil {
			in++
		} else {
			refusedWith(t, err, "spent")
		}
	}
	if in != uses {
		t.Errorf("%d calls were let in, %d may", in, uses)
	}
	bob = w.again(bob)
	if list, err := bob.Grants(t.Context(), conformanceDNA); err != nil || len(list) != 1 || list[0].Used != uses {
		t.Errorf("after a restart: %+v, %v", list, err)
	}
}

// conformancePair is newPair with the conformance suite's DNA.
func conformancePair(t *testing.T) (alice, bob *testNode, p *proxy) {
	t.Helper()
	p = newProxy(t)
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	w.base.Advertise = append(w.base.Advertise, p.addr())
	bob = w.start("bob")
	p.forward(bob.Addr())
	w.base.Advertise, w.base.Listen, w.first = nil, "", []Peer{{Agent: bob.Agent(), Host: p.addr().String()}}
	return w.start("alice"), bob, p
}

// TestUseIsCountedOnce: a call that is sent again over a new session is one use.
func TestUseIsCountedOnce(t *testing.T) {
	t.Parallel()
	alice, bob, p := conformancePair(t)
	g := assignedTo(alice.Agent())
	g.Uses = 100
	addGrant(t, bob, g)
	token := rand.Text() // signals are the process's
	done := make(chan error, 1)
	go func() {
		_, err := step(t, alice, sdktest.Step{Op: "remote", To: bob.Agent(), Then: &sdktest.Step{Op: "gate", Text: token, Then: &sdktest.Step{Op: "commit", Text: "once"}}})
		done <- err
	}()
	if _, err := step(t, bob, sdktest.Step{Op: "wait", Text: token + ".begun"}); err != nil {
		t.Fatal(err)
	}
	p.cut()
	await(t, func() bool { return bob.traffic.messages.Load() == 2 }) // it came again
	if _, err := step(t, bob, sdktest.Step{Op: "raise", Text: token + ".open"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if list, err := bob.Grants(t.Context(), conformanceDNA); err != nil || list[0].Used != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// busyHandler takes no calls while it is full.
type busyHandler struct {
	*sdk.Definition
	full atomic.Bool
	busy func() // nil, or called before it takes none
}

func (h *busyHandler) Serve(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
	if h.full.Load() {
		if h.busy != nil {
			h.busy()
		}
		return nil, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true}
	}
	return h.Definition.Serve(ctx, host, call)
}

// TestUseGivenBack: what never began to run is no use; what failed is one.
func TestUseGivenBack(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	alice := w.start("alice")
	handler := &busyHandler{Definition: sdktest.ConformanceDNA()}
	cfg := w.base
	cfg.DataDir, cfg.Bootstrap, cfg.Handlers = filepath.Join(w.dir, "bob"), w.first, []sdk.Handler{handler}
	bob := startNode(t, cfg)
	g := sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice.Agent()}, Uses: 5}
	addGrant(t, bob, g)
	used := func(want int) {
		t.Helper()
		if list, err := bob.Grants(t.Context(), conformanceDNA); err != nil || list[0].Used != want {
			t.Fatalf("%+v, %v; want %d uses", list, err, want)
		}
	}
	_, err := step(t, alice, sdktest.Step{Op: "remote", To: bob.Agent(), Text: "dont", Then: &sdktest.Step{Op: "who"}})
	wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
	used(0)
	_, err = step(t, alice, sdktest.Step{Op: "remote", To: bob.Agent(), Then: &sdktest.Step{Op: "fail", Text: "told"}})
	wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, true)
	used(1)
	handler.full.Store(true)
	if err := whoAt(t, alice, bob); !errors.Is(err, sdk.Busy) {
		t.Fatalf("got %v", err)
	}
	used(1)
	handler.full.Store(false)
	if err := whoAt(t, alice, bob); err != nil {
		t.Fatal(err)
	}
	used(2)
}

func TestGrantsAreBounded(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	w.base.Limits.MaxGrants = 3
	bob := w.start("bob")
	for range 3 {
		addGrant(t, bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	}
	_, err := bob.AddGrant(t.Context(), conformanceDNA, sdk.Grant{Kind: sdk.GrantUnrestricted})
	if e := wantError(t, err, sdk.Busy, sdk.DeliveredNo, true); e.Limit == nil || e.Limit.Setting != "max-grants" {
		t.Errorf("got %v", e)
	}
	list, err := bob.Grants(t.Context(), conformanceDNA)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	// Where fewer are allowed than last, the newest are taken.
	bob.stop()
	cfg := bob.cfg
	cfg.Limits.MaxGrants, cfg.Handlers = 2, []sdk.Handler{sdktest.ConformanceDNA()}
	bob = startNode(t, cfg)
	if fewer, err := bob.Grants(t.Context(), conformanceDNA); err != nil || len(fewer) != 2 || fewer[0].ID != list[1].ID || fewer[1].ID != list[2].ID {
		t.Errorf("%+v, %v", fewer, err)
	}
}

// TestUnreadableGrants: one that can't be read lets nobody in; an end that can't
// be read must not leave a grant that is over.
func TestUnreadableGrants(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	bob := w.start("bob")
	claim := addGrant(t, bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	a := bob.apps.all()[0]
	for _, c := range []struct {
		entryType string
		fails     bool
	}{{agency.TypeGrant, false}, {agency.TypeRevoked, true}} {
		if _, err := bob.appendOwn(t.Context(), a, bob.operatorCause(), sdk.Entry{Type: c.entryType, Content: []byte("later")}); err != nil {
			t.Fatal(err)
		}
		addGrant(t, bob, sdk.Grant{Kind: sdk.GrantUnrestricted}) // behind it
		other := &app{name: a.name, hash: a.hash, chain: a.chain, log: a.log}
		err := bob.loadGrants(other)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.entryType, err)
		}
		if _, lasts := other.grants.book.Known(time.Now(), claim.Grant); !c.fails && !lasts {
			t.Error("the other grants are not there")
		}
	}
}

func TestAgencyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), agencyFile)
	d, err := openAgencyDB(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := d.update(func(tx *bolt.Tx) error { return putAgency(tx, bucketUses, []byte{byte(i)}, []byte{1}) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	failed := errors.New("no")
	if err := d.update(func(*bolt.Tx) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	n := 0
	if err := d.each(bucketUses, func(_, _ []byte) error { n++; return nil }); err != nil || n != 100 {
		t.Errorf("%d elements, %v", n, err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if d, err := openAgencyDB(path, nil); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a file that others may read: %v, %v", d, err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := openAgencyDB(path, nil); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("a damaged file: %v, %v", d, err)
	}
}
