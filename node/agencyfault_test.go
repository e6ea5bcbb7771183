package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// agencyFaults make the next step of a name fail.
type agencyFaults struct {
	mu   sync.Mutex // guards what follows
	step string
	err  error
}

func (f *agencyFaults) arm(step string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.step, f.err = step, err
}

// fired tells that the fault was met.
func (f *agencyFaults) fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.step == ""
}

func (f *agencyFaults) at(step string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.step != step {
		return nil
	}
	f.step = ""
	return f.err
}

// faultyPair is alice, and bob, the steps of whose agency.db fail.
type faultyPair struct {
	t          *testing.T
	w          *testNetwork
	faults     *agencyFaults
	handler    *busyHandler
	alice, bob *testNode
}

func newFaultyPair(t *testing.T) *faultyPair {
	p := &faultyPair{t: t, w: newTestNetwork(t, sdktest.ConformanceDNA), faults: &agencyFaults{}}
	p.alice = p.w.start("alice")
	p.start()
	return p
}

func (p *faultyPair) start() {
	cfg := p.w.base
	p.handler = &busyHandler{Definition: sdktest.ConformanceDNA()}
	cfg.DataDir, cfg.Bootstrap, cfg.Handlers = filepath.Join(p.w.dir, "bob"), p.w.first, []sdk.Handler{p.handler}
	cfg.agencyStep = p.faults.at
	p.bob = startNode(p.t, cfg)
}

func (p *faultyPair) restart() {
	p.t.Helper()
	p.bob.stop()
	p.start()
}

// used is how often a grant was used, as bob says.
func (p *faultyPair) used(grant sdk.Hash) int {
	p.t.Helper()
	list, err := p.bob.Grants(p.t.Context(), conformanceDNA)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, g := range list {
		if g.ID == grant {
			return g.Used
		}
	}
	p.t.Fatalf("no grant %s", grant)
	return 0
}

// fails runs f, which meets the fault, and returns its error.
func (p *faultyPair) fails(step string, f func() error) error {
	p.t.Helper()
	p.faults.arm(step, syscall.EIO)
	err := f()
	if !p.faults.fired() {
		p.t.Fatalf("%s was never come to", step)
	}
	return err
}

// notCounted is what a caller is told whose use could not be counted.
func notCounted(t *testing.T, err error) {
	t.Helper()
	if e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true); e.HandlerCode != sdk.HandlerCodeCommit || e.Side != sdk.SideRemoteNode ||
		!strings.Contains(e.Text, "could not be counted") || strings.Contains(e.Text, agencyFile) {
		t.Errorf("got %v", e)
	}
}

// TestAgencyFaults: each step of a transaction of agency.db fails once, under each
// thing that is written there. It is refused or it works, and afterwards, and after
// a restart, what counts is what was answered.
func TestAgencyFaults(t *testing.T) {
	t.Parallel()
	for _, step := range []string{stepBegin, stepPut, stepCommit, stepCommitted} {
		for name, test := range map[string]func(*faultyPair, string){
			"use": faultyUse, "give back": faultyGiveBack, "revoke": faultyRevoke, "delegation": faultyDelegation, "policy": faultyPolicy, "claim": faultyClaim, "exchange": faultyExchange,
		} {
			t.Run(step+"/"+name, func(t *testing.T) {
				t.Parallel()
				test(newFaultyPair(t), step)
			})
		}
	}
}

func (p *faultyPair) counted(uses int) sdk.Hash {
	g := assignedTo(p.alice.Agent())
	g.Uses = uses
	return addGrant(p.t, p.bob, g).Grant
}

func faultyUse(p *faultyPair, step string) {
	t := p.t
	grant := p.counted(3)
	if err := whoAt(t, p.alice, p.bob); err != nil {
		t.Fatal(err)
	}
	notCounted(t, p.fails(step, func() error { return whoAt(t, p.alice, p.bob) }))
	if got := p.used(grant); got != 1 {
		t.Errorf("%d uses, 1 was let in", got)
	}
	p.restart() // at once: the disk may have the use that was none
	if got := p.used(grant); got != 1 {
		t.Errorf("after a restart %d uses, 1 was let in", got)
	}
	notCounted(t, p.fails(step, func() error { return whoAt(t, p.alice, p.bob) }))
	for range 2 {
		if err := whoAt(t, p.alice, p.bob); err != nil {
			t.Fatal(err)
		}
	}
	p.restart()
	refusedWith(t, whoAt(t, p.alice, p.bob), "spent")
}

func faultyGiveBack(p *faultyPair, step string) {
	t := p.t
	grant := p.counted(2)
	p.handler.full.Store(true)
	var once sync.Once
	p.handler.busy = func() { once.Do(func() { p.faults.arm(step, syscall.ENOSPC) }) } // the use is counted, and then given back
	if err := whoAt(t, p.alice, p.bob); !errors.Is(err, sdk.Busy) {
		t.Fatalf("got %v", err)
	}
	if !p.faults.fired() {
		t.Fatalf("%s was never come to", step)
	}
	p.restart()
	if got := p.used(grant); got != 0 {
		t.Errorf("%d uses, none was let in", got)
	}
	for range 2 {
		if err := whoAt(t, p.alice, p.bob); err != nil {
			t.Fatal(err)
		}
	}
	refusedWith(t, whoAt(t, p.alice, p.bob), "spent")
}

func faultyRevoke(p *faultyPair, step string) {
	t := p.t
	grant := p.counted(5)
	if err := whoAt(t, p.alice, p.bob); err != nil {
		t.Fatal(err)
	}
	err := p.fails(step, func() error { return p.bob.RevokeGrant(t.Context(), conformanceDNA, grant) })
	if err != nil {
		t.Errorf("its end is on the chain, and the error is %v", err)
	}
	refusedWith(t, whoAt(t, p.alice, p.bob), "revoked")
	p.restart()
	refusedWith(t, whoAt(t, p.alice, p.bob), "no grant")
	if kept := keptUses(t, p.bob.Node); kept != 0 {
		t.Errorf("the counts of %d grants are kept, and it is over", kept)
	}
}

// keptUses is of how many grants agency.db has the uses.
func keptUses(t testing.TB, n *Node) (count int) {
	t.Helper()
	if err := n.agencyDB.each(bucketUses, func(_, _ []byte) error { count++; return nil }); err != nil {
		t.Fatal(err)
	}
	return count
}

// conform is step, where step has another meaning.
func conform(t testing.TB, n *testNode, s sdktest.Step) (sdktest.Result, error) { return step(t, n, s) }

func faultyDelegation(p *faultyPair, step string) {
	t := p.t
	carol := p.w.start("carol")
	r, err := conform(t, carol, sdktest.Step{Op: "delegate", Delegate: &sdk.Delegation{To: p.alice.Agent(), Messages: true, Uses: 2, Expires: time.Now().Add(time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	send := func() error {
		_, err := conform(t, p.alice, sdktest.Step{Op: "send", To: p.bob.Agent(), Proof: r.Proof, Then: &sdktest.Step{Op: "who"}})
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	notCounted(t, p.fails(step, send))
	p.restart()
	if err := send(); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, send(), "used up")
	p.restart()
	refusedWith(t, send(), "used up")
}

func faultyPolicy(p *faultyPair, step string) {
	t := p.t
	hear := func() error {
		_, err := conform(t, p.alice, sdktest.Step{Op: "send", To: p.bob.Agent(), Then: &sdktest.Step{Op: "who"}})
		return err
	}
	list := []sdk.AgentID{p.alice.Agent()}
	for _, c := range []struct {
		change  control.PolicyChange
		blocked bool // by it
	}{{control.PolicyChange{Block: list}, true}, {control.PolicyChange{Unblock: list}, false}} {
		holds := func(blocked bool) {
			t.Helper()
			if err := hear(); blocked {
				refusedWith(t, err, "blocked")
			} else if err != nil {
				t.Fatal(err)
			}
		}
		err := p.fails(step, func() error { _, err := p.bob.ChangePolicy(t.Context(), c.change); return err })
		if e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true); !strings.Contains(e.Text, "stay as they are") || !strings.Contains(e.Text, syscall.EIO.Error()) {
			t.Errorf("got %v", e)
		}
		holds(!c.blocked)
		p.restart() // what was refused must not hold now, though the disk may have taken it
		holds(!c.blocked)
		change(t, p.bob, c.change)
		holds(c.blocked)
	}
}

func faultyClaim(p *faultyPair, step string) {
	t := p.t
	claim := addGrant(t, p.alice, sdk.Grant{Kind: sdk.GrantTransferable})
	err := p.fails(step, func() error { return p.bob.AddClaim(t.Context(), conformanceDNA, claim) })
	wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true)
	p.restart()
	if list, err := p.bob.Claims(t.Context(), conformanceDNA); err != nil || len(list) != 1 || !list[0].Secret {
		t.Errorf("%+v, %v", list, err)
	}
	err = p.fails(step, func() error { return p.bob.RemoveClaim(t.Context(), conformanceDNA, claim.Grant) })
	wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true)
	p.restart()
	if list, err := p.bob.Claims(t.Context(), conformanceDNA); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestAgencyFileFaults: opening, reading and closing agency.db fail once. The node
// says so and does not run; the next one does, with all that was there.
func TestAgencyFileFaults(t *testing.T) {
	t.Parallel()
	dir := shortTempDir(t)
	var faults agencyFaults
	run := func() error {
		cfg := testConfig()
		cfg.DataDir, cfg.agencyStep = dir, faults.at
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			select {
			case <-n.Started():
			case <-n.life.Done():
			}
			cancel()
		}()
		return n.Run(ctx)
	}
	for _, c := range []struct{ step, want string }{
		{stepOpen, "nothing in it was changed"},
		{stepCommit, "nothing in it was changed"},
		{"", ""}, // it is made
		{stepOpen, "nothing in it was changed"},
		{stepCommit, "nothing in it was changed"},
		{stepRead, "could not be read"},
		{stepClose, "nothing is lost"},
		{"", ""},
	} {
		faults.arm(c.step, syscall.EIO)
		err := run()
		switch {
		case c.step == "" && err != nil:
			t.Fatal(err)
		case c.step != "" && (!errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "backup")):
			t.Errorf("%s: %v", c.step, err)
		}
		if !faults.fired() {
			t.Errorf("%s was never come to", c.step)
		}
		if left, err := filepath.Glob(filepath.Join(dir, agencyFile+"?*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", c.step, left, err)
		}
	}
}

// TestAgencyGroup: what waits for one transaction does not suffer from a write of
// another's that can't be made, nor from one that panics.
func TestAgencyGroup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), agencyFile)
	if err := os.WriteFile(path+".new", []byte("begun, and never ended"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openAgencyDB(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(k byte) *agencyWrite {
		return &agencyWrite{do: func(tx *bolt.Tx) error { return putAgency(tx, bucketUses, []byte{k}, []byte{1}) }}
	}
	wrong := errors.New("no")
	group := []*agencyWrite{put(1), {do: func(*bolt.Tx) error { return wrong }}, put(2), {do: func(*bolt.Tx) error { panic("as asked") }}, put(3)}
	d.writing.Lock()
	d.run(append([]*agencyWrite(nil), group...))
	d.writing.Unlock()
	for i, w := range group {
		if !w.done || (w.err != nil) != (i%2 == 1) {
			t.Errorf("write %d: %t, %v", i, w.done, w.err)
		}
	}
	if !errors.Is(group[1].err, wrong) || !strings.Contains(group[3].err.Error(), "as asked") {
		t.Errorf("%v; %v", group[1].err, group[3].err)
	}
	if n := keptUses(t, &Node{agencyDB: d}); n != 3 {
		t.Errorf("%d elements", n)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := d.update(put(4).do); err == nil {
		t.Error("written after the end")
	}
}
