package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

// entryNode is a node that publishes to a fake DHT, with DNAs and nothing else
// around them, in a bubble.
type entryNode struct {
	*Node
	t    *testing.T
	fake *fakeEntries
	stop func()
}

func newEntryNode(t *testing.T, dir string, fake *fakeEntries, change func(*Config)) *entryNode {
	t.Helper()
	cfg := testConfig()
	cfg.DataDir, cfg.entries = dir, fake
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(n.cfg.path("chains"), 0o700); err != nil {
		t.Fatal(err)
	}
	closeAgency := openAgency(t, n)
	ctx, cancel := context.WithCancel(context.Background())
	n.tasks.open(ctx)
	ended := make(chan error, 2)
	go func() { ended <- n.publisher.run(ctx) }()
	go func() { ended <- n.publisher.revocations.run(ctx) }()
	e := &entryNode{Node: n, t: t, fake: fake}
	stopped := false
	e.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		err := errors.Join(<-ended, <-ended)
		n.tasks.wait()
		if err := errors.Join(err, n.closeApps()); err != nil {
			t.Error(err)
		}
		closeAgency()
	}
	t.Cleanup(e.stop)
	return e
}

// add makes the node run a DNA whose handler answers each validate with judge.
func (n *entryNode) add(name string, judge func(r *sdk.Record) error) *app {
	n.t.Helper()
	a, err := n.newApp(sdk.Description{Name: name, Integrity: "1", Functions: []string{"f"}, Validate: judge != nil})
	if err != nil {
		n.t.Fatal(err)
	}
	a.handler = rawHandler{func(_ context.Context, _ sdk.Host, call *sdk.Call) ([]byte, error) {
		if call.Kind != sdk.CallValidate {
			return nil, errors.New("only validate is expected")
		}
		return nil, judge(&call.Records[0])
	}}
	if err := n.admit(n.t.Context(), a, a.handler, &a.desc); err != nil {
		n.t.Fatal(err)
	}
	return a
}

// commit makes a call that commits these entries, and gives their records.
func (n *entryNode) commit(a *app, entries ...sdk.Entry) []sdk.Record {
	n.t.Helper()
	head, _ := a.chain.Head()
	post(n.t, n.Node, a, entries...)
	rs, err := a.chain.Query(sdk.Query{From: head + 1, Limit: 1000})
	if err != nil || len(rs) != len(entries) {
		n.t.Fatalf("%d records, %v", len(rs), err)
	}
	return rs
}

func publicNote(text string) sdk.Entry {
	return sdk.Entry{Type: "note", Visibility: sdk.Public, Content: []byte(text)}
}

func ids(rs ...sdk.Record) (out []dht.ID) {
	for _, r := range rs {
		out = append(out, entryID(r.Header.DNA, r.Hash()))
	}
	return out
}

func (f *fakeEntries) putsSoFar() []dht.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.puts)
}

func TestPublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, dir := newFakeEntries(), t.TempDir()
		n := newEntryNode(t, dir, fake, nil)
		a := n.add("raw", nil)
		time.Sleep(publishStart) // for the node to be ready, which it never is here
		synctest.Wait()
		rs := n.commit(a, publicNote("one"), sdk.Entry{Type: "note", Content: []byte("private")}, publicNote("two"))
		want := ids(rs[2], rs[0])
		synctest.Wait()
		if got := fake.putsSoFar(); !slices.Equal(got, want) {
			t.Fatalf("put %v, want %v", got, want)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got := fake.putsSoFar(); len(got) != 6 { // at 0 h, 11 to 12 h, 22 to 24 h
			t.Errorf("%d puts of 2 entries in 25 h", len(got))
		}
		// The next run of the node publishes them again, without being told.
		n.stop()
		before := len(fake.putsSoFar())
		n = newEntryNode(t, dir, fake, nil)
		n.add("raw", nil)
		time.Sleep(publishStart)
		synctest.Wait()
		if got := fake.putsSoFar()[before:]; !slices.Equal(got, want) {
			t.Errorf("after a restart: put %v, want %v", got, want)
		}
		s, err := n.Status(t.Context())
		if err != nil || s.DHT.EntriesPublished != 2 || s.DHT.EntriesWaiting != 0 || s.DHT.LastEntryError != "" {
			t.Errorf("%+v, %v", s.DHT, err)
		}
	})
}

// While the network is down nothing is lost and nobody waits: what was committed
// is published when it is back.
func TestPublishWhileTheNetworkIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		fake.refuse = func(dht.ID, []byte) error { return dht.ErrNoAnswer }
		n := newEntryNode(t, t.TempDir(), fake, nil)
		a := n.add("raw", nil)
		time.Sleep(publishStart)
		began := time.Now()
		rs := n.commit(a, publicNote("one"))
		if took := time.Since(began); took != 0 {
			t.Errorf("the commit took %s", took)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		tries := len(fake.putsSoFar())
		if most := int(24*time.Hour/(publishPauseMax*3/4)) + 10; tries < 24*60/13 || tries > most {
			t.Errorf("%d tries in 24 h, at most %d", tries, most)
		}
		s, err := n.Status(t.Context())
		if err != nil || s.DHT.EntriesWaiting != 1 || !strings.Contains(s.DHT.LastEntryError, dht.ErrNoAnswer.Error()) {
			t.Errorf("%+v, %v", s.DHT, err)
		}
		rs = append(rs, n.commit(a, publicNote("two"))...) // does not wait for the other's pause
		synctest.Wait()
		if got := fake.putsSoFar(); len(got) != tries+1 || got[tries] != ids(rs[1])[0] {
			t.Errorf("%d tries, %d before", len(got), tries)
		}
		fake.set(func(f *fakeEntries) { f.refuse = nil })
		time.Sleep(publishPauseMax * 5 / 4)
		synctest.Wait()
		for _, id := range ids(rs...) {
			if fake.held[id] == nil {
				t.Errorf("%s is not published", id)
			}
		}
	})
}

// A holder's refusal of one entry does not hold up the others.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		n := newEntryNode(t, t.TempDir(), fake, nil)
		a := n.add("raw", nil)
		fake.refuse = func(_ dht.ID, body []byte) error {
			if bytes.HasSuffix(body, []byte("bad")) {
				return errors.New("not that one")
			}
			return nil
		}
		time.Sleep(publishStart)
		rs := n.commit(a, publicNote("one"), publicNote("bad"), publicNote("two"))
		synctest.Wait()
		if fake.held[ids(rs[0])[0]] == nil || fake.held[ids(rs[2])[0]] == nil {
			t.Errorf("held: %d", len(fake.held))
		}
	})
}

// The newest entries of all DNAs together are kept published, as many as the
// setting says; the chain keeps all.
func TestPublishBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, dir := newFakeEntries(), t.TempDir()
		few := func(c *Config) { c.Limits.PublicEntries = 3 }
		n := newEntryNode(t, dir, fake, few)
		a, b := n.add("raw", nil), n.add("other", nil)
		time.Sleep(publishStart)
		var all []sdk.Record
		for i := range 3 {
			all = append(all, n.commit(a, publicNote(strings.Repeat("a", i)))...)
			synctest.Wait()
			time.Sleep(time.Second)
			all = append(all, n.commit(b, publicNote(strings.Repeat("b", i)))...)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if got := fake.putsSoFar(); !slices.Equal(got, ids(all...)) { // each was new once
			t.Errorf("%d puts", len(got))
		}
		before := len(fake.putsSoFar())
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		got := fake.putsSoFar()[before:]
		slices.SortFunc(got, func(a, b dht.ID) int { return bytes.Compare(a[:], b[:]) })
		want := ids(all[3:]...)
		slices.SortFunc(want, func(a, b dht.ID) int { return bytes.Compare(a[:], b[:]) })
		if !slices.Equal(got, want) {
			t.Errorf("%d were published again", len(got))
		}
		s, err := n.Status(t.Context())
		if err != nil || s.DHT.EntriesPublished != 3 || s.DHT.EntriesLeftOut != 3 {
			t.Errorf("%+v, %v", s.DHT, err)
		}
		if a.chain.Len() != 4 || b.chain.Len() != 4 {
			t.Error("the chain lost entries")
		}
		n.stop() // a start publishes the newest alone
		before = len(fake.putsSoFar())
		n = newEntryNode(t, dir, fake, few)
		n.add("raw", nil)
		n.add("other", nil)
		time.Sleep(publishStart)
		synctest.Wait()
		if got := fake.putsSoFar()[before:]; !slices.Equal(got, ids(all[5], all[4], all[3])) {
			t.Errorf("after a restart: %d puts", len(got))
		}
	})
}

// What a call staged that failed, and what is the node's own, is not published;
// nor are the entries of a DNA that no longer runs.
func TestPublishOnlyWhatIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		n := newEntryNode(t, t.TempDir(), fake, nil)
		a := n.add("raw", nil)
		time.Sleep(publishStart)
		commits := func(failing error) {
			h := rawHandler{func(ctx context.Context, host sdk.Host, _ *sdk.Call) ([]byte, error) {
				_, err := host.Commit(ctx, publicNote("staged"))
				return nil, errors.Join(err, failing)
			}}
			call := &sdk.Call{Kind: sdk.CallFunction, Function: "f", ID: newMessageID(), From: n.id.agent}
			if _, _, e := n.runIn(t.Context(), h, a, call); (e == nil) != (failing == nil) {
				t.Fatal(e)
			}
			synctest.Wait()
		}
		commits(errors.New("as told"))
		if got := fake.putsSoFar(); len(got) != 0 {
			t.Fatalf("%d puts of a call that failed", len(got))
		}
		commits(nil)
		if got := fake.putsSoFar(); len(got) != 1 {
			t.Fatalf("%d puts of a call that succeeded", len(got))
		}
		n.apps.remove(a)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if got := fake.putsSoFar(); len(got) != 1 {
			t.Errorf("%d puts after the DNA was gone", len(got))
		}
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	})
}
