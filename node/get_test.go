package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// notBad is a validate's judgement.
func notBad(r *sdk.Record) error {
	if bytes.Contains(r.Content, []byte("bad")) {
		return sdk.Fail(sdk.HandlerCodeValidate, "bad")
	}
	return nil
}

// A reader gets another agent's entry, checked, once from the DHT and then from
// its cache; its own one from its chain.
func TestGet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		alice, bob := newEntryNode(t, t.TempDir(), fake, nil), newEntryNode(t, t.TempDir(), fake, nil)
		a, b := alice.add("raw", notBad), bob.add("raw", notBad)
		time.Sleep(publishStart)
		rs := alice.commit(a, publicNote("good"), publicNote("bad"), publicNote(""))
		synctest.Wait()
		for range 2 {
			for _, i := range []int{0, 2} {
				got, err := bob.get(t.Context(), b, b.handler, rs[i].Hash())
				if err != nil || got.Header != rs[i].Header || !bytes.Equal(got.Content, rs[i].Content) || got.Content == nil || got.Verify() != nil {
					t.Fatalf("%d: %+v, %v", i, got, err)
				}
				got.Content = append(got.Content, "changed"...)
				if len(rs[i].Content) > 0 {
					got.Content[0]++ // the caller's own
				}
			}
		}
		if fake.gets != 2 {
			t.Errorf("the DHT was asked %d times for 2 entries", fake.gets)
		}
		for range 2 { // a refused one is not kept
			_, err := bob.get(t.Context(), b, b.handler, rs[1].Hash())
			if err == nil || err.HandlerCode != sdk.HandlerCodeValidate || !err.Retry || err.Delivered != sdk.DeliveredNo {
				t.Errorf("a bad one: %v", err)
			}
		}
		if fake.gets != 4 {
			t.Errorf("the DHT was asked %d times", fake.gets)
		}
		if got, err := alice.get(t.Context(), a, a.handler, rs[1].Hash()); err != nil || got.Header != rs[1].Header || fake.gets != 4 {
			t.Errorf("her own: %+v, %v", got, err)
		}
		s, err := bob.Status(t.Context())
		if err != nil || s.DHT.EntrySearches != 4 {
			t.Errorf("%+v, %v", s.DHT, err)
		}
	})
}

// No DNA's Get is answered with another's entry.
func TestGetOfAnotherDNA(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		alice, bob := newEntryNode(t, t.TempDir(), fake, nil), newEntryNode(t, t.TempDir(), fake, nil)
		a, other := alice.add("raw", nil), alice.add("other", nil)
		b := bob.add("raw", nil)
		time.Sleep(publishStart)
		r := alice.commit(other, publicNote("of the other DNA"))[0]
		synctest.Wait()
		for name, get := range map[string]func() (sdk.Record, *sdk.Error){
			"the author's":  func() (sdk.Record, *sdk.Error) { return alice.get(t.Context(), a, a.handler, r.Hash()) },
			"another agent": func() (sdk.Record, *sdk.Error) { return bob.get(t.Context(), b, b.handler, r.Hash()) },
			"one that holders give it to": func() (sdk.Record, *sdk.Error) {
				bob.entries = lyingDHT(func(dht.ID) []byte { return fake.held[ids(r)[0]] })
				return bob.get(t.Context(), b, b.handler, r.Hash())
			},
		} {
			if got, err := get(); err == nil || got.Content != nil {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if got, err := alice.get(t.Context(), other, other.handler, r.Hash()); err != nil || got.Header != r.Header {
			t.Errorf("its own DNA's: %v", err)
		}
	})
}

// Whatever holders hand out, a handler sees the entry that it asked for, whole, or
// none: where the DHT checks it, and where it does not.
func TestGetOfHostileHolders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		bob := newEntryNode(t, t.TempDir(), fake, nil)
		judged := 0
		b := bob.add("raw", func(*sdk.Record) error { judged++; return nil })
		key := testPrivateKey(9)
		right := foreignRecord(t, b.hash, "good")
		resigned := func(r sdk.Record, key ed25519.PrivateKey, change func(*sdk.Record)) []byte {
			change(&r)
			sign(&r, key)
			return encodeAnyway(&r)
		}
		for name, body := range map[string][]byte{
			"nothing":      nil,
			"garbage":      bytes.Repeat([]byte{0xc1}, 500),
			"half of it":   encodeAnyway(&right)[:200],
			"a byte more":  append(encodeAnyway(&right), 0),
			"oversize":     append(encodeAnyway(&right), make([]byte, 16<<20)...),
			"another's":    resigned(right, testPrivateKey(8), func(r *sdk.Record) { r.Header.Author = newIdentity(testPrivateKey(8)).agent }),
			"another one":  resigned(right, key, func(r *sdk.Record) { r.Header.Seq++ }),
			"a forged one": resigned(right, testPrivateKey(8), func(*sdk.Record) {}),
			"altered":      resigned(right, key, func(r *sdk.Record) { r.Content = []byte("evil") }),
			"altered, and the header with it": resigned(right, key, func(r *sdk.Record) {
				r.Content = []byte("evil")
				r.Header.Entry = sdk.EntryHash(r.Content)
			}),
			"of another DNA": resigned(right, key, func(r *sdk.Record) { r.Header.DNA[0] ^= 1 }),
			"private":        resigned(right, key, func(r *sdk.Record) { r.Header.Visibility = sdk.Private }),
			"altered after it was signed": func() []byte {
				r := right
				r.Header.Visibility = sdk.Private
				sign(&r, key)
				r.Header.Visibility = sdk.Public
				return encodeAnyway(&r)
			}(),
		} {
			fake.set(func(f *fakeEntries) { f.answer = func(dht.ID, []byte) []byte { return body } })
			for _, entries := range []entryDHT{fake, lyingDHT(func(dht.ID) []byte { return body })} {
				bob.entries = entries
				if got, err := bob.get(t.Context(), b, b.handler, right.Hash()); err == nil || got.Content != nil || !err.Retry {
					t.Errorf("%s: %T gave %+v, %v", name, entries, got, err)
				}
			}
		}
		if judged != 0 {
			t.Errorf("the handler saw %d of them", judged)
		}
		bob.entries = lyingDHT(func(dht.ID) []byte { return encodeAnyway(&right) })
		if got, err := bob.get(t.Context(), b, b.handler, right.Hash()); err != nil || got.Header != right.Header || judged != 1 {
			t.Errorf("the right one: %v, judged %d times", err, judged)
		}
	})
}

// A key of low order signs whatever one likes: no agent has it.
func TestEntryOfNoAgent(t *testing.T) {
	t.Parallel()
	r := foreignRecord(t, sdk.DNAHash{1}, "x")
	r.Header.Author = sdk.AgentID{1} // the identity: R = s·B fits every message
	r.Signature = [64]byte{1}
	if !ed25519.Verify(r.Header.Author[:], sdk.SigningBytes(r.Hash()), r.Signature[:]) {
		t.Fatal("this signature is to be right")
	}
	if _, _, err := checkEntry(encodeAnyway(&r)); err == nil || !strings.Contains(err.Error(), "no agent") {
		t.Errorf("got %v", err)
	}
}

func TestGetErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		bob := newEntryNode(t, t.TempDir(), fake, func(c *Config) { c.Limits.PublicSearches = 1 })
		b := bob.add("raw", func(r *sdk.Record) error {
			if string(r.Content) == "\xa5panic" {
				panic("as asked")
			}
			return nil
		})
		get := func(ctx context.Context) *sdk.Error {
			_, err := bob.get(ctx, b, b.handler, sdk.Hash{7})
			return err
		}
		for _, c := range []struct {
			err         error
			code        sdk.Code
			handlerCode string
		}{
			{dht.ErrNotFound, sdk.HandlerFailed, sdk.HandlerCodeNotFound},
			{dht.ErrNoAnswer, sdk.Unreachable, ""},
			{dht.ErrClosed, sdk.Unreachable, ""},
			{dht.ErrBusy, sdk.Busy, ""},
			{errors.New("something else"), sdk.HandlerFailed, ""},
		} {
			fake.set(func(f *fakeEntries) { f.fail = fmt.Errorf("dht: entry: %w", c.err) })
			e := get(t.Context())
			if e == nil || e.Code != c.code || e.HandlerCode != c.handlerCode || !e.Retry || e.Delivered != sdk.DeliveredNo || e.Side != sdk.SideNode {
				t.Errorf("%v: got %v", c.err, e)
			}
			if sdk.IsNotFound(e) != errors.Is(c.err, dht.ErrNotFound) {
				t.Errorf("%v: IsNotFound", c.err)
			}
		}
		// One search at a time: the next one is told, and does not wait.
		fake.set(func(f *fakeEntries) { f.fail, f.wait = nil, make(chan struct{}) })
		short, cancel := context.WithTimeout(t.Context(), time.Minute/2)
		defer cancel()
		first := make(chan *sdk.Error, 1)
		go func() { first <- get(short) }()
		synctest.Wait()
		e := get(t.Context())
		if e == nil || e.Code != sdk.Busy || e.Limit == nil || e.Limit.Setting != "public-searches" || e.Limit.Max != 1 || e.Limit.RetryAfter == 0 {
			t.Errorf("one too many: %v", e)
		}
		began := time.Now()
		if e := <-first; e == nil || e.Code != sdk.Timeout || time.Since(began) != time.Minute/2 {
			t.Errorf("%v after %s", e, time.Since(began))
		}
		began = time.Now() // without a deadline it has the node's
		if e := get(t.Context()); e == nil || e.Code != sdk.Timeout || time.Since(began) != DefaultDeadline {
			t.Errorf("%v after %s", e, time.Since(began))
		}
		given, giveUp := context.WithCancel(t.Context())
		go func() { first <- get(given) }()
		synctest.Wait()
		giveUp()
		if e := <-first; e == nil || e.Code != sdk.Canceled {
			t.Errorf("given up: %v", e)
		}
		// What validate could not judge is not said to be invalid.
		r := foreignRecord(t, b.hash, "panic")
		bob.entries = lyingDHT(func(dht.ID) []byte { return encodeAnyway(&r) })
		if _, e := bob.get(t.Context(), b, b.handler, r.Hash()); e == nil || e.HandlerCode != sdk.HandlerCodePanic || !e.Retry {
			t.Errorf("not judged: %v", e)
		}
		// The node's end ends it.
		bob.entries = fake
		go func() { first <- get(t.Context()) }()
		synctest.Wait()
		bob.end(errNodeStopping())
		if e := <-first; e == nil || e.Code != sdk.Canceled {
			t.Errorf("the node ended: %v", e)
		}
	})
}

// Many calls get the same few entries, while more are published and refused.
func TestGetConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		alice, bob := newEntryNode(t, t.TempDir(), fake, nil), newEntryNode(t, t.TempDir(), fake, nil)
		a, b := alice.add("raw", notBad), bob.add("raw", notBad)
		time.Sleep(publishStart)
		texts := []string{"good", "bad", "", "good too", "bad too"}
		var rs []sdk.Record
		for _, text := range texts {
			rs = append(rs, alice.commit(a, publicNote(text))...)
		}
		synctest.Wait()
		errs := make(chan error, 60*len(rs))
		for range 60 { // fewer than public-searches
			go func() {
				for i, r := range rs {
					got, err := bob.get(t.Context(), b, b.handler, r.Hash())
					switch bad := strings.Contains(texts[i], "bad"); {
					case bad && (err == nil || err.HandlerCode != sdk.HandlerCodeValidate):
						errs <- fmt.Errorf("%q: %v", texts[i], err)
					case !bad && (err != nil || got.Hash() != r.Hash() || string(got.Content) != texts[i]):
						errs <- fmt.Errorf("%q: %q, %v", texts[i], got.Content, err)
					default:
						errs <- nil
					}
				}
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := len(bob.searches); n != 0 || bob.found.used.Len() != 3 {
			t.Errorf("%d places are taken, %d entries cached", n, bob.found.used.Len())
		}
	})
}

// An agent that has lost its chain finds what it had published.
func TestGetOfAnOwnLostEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		bob := newEntryNode(t, t.TempDir(), fake, nil)
		b := bob.add("raw", notBad)
		for text, ok := range map[string]bool{"good": true, "bad": false} {
			r := foreignRecord(t, b.hash, text)
			r.Header.Author = bob.Agent()
			sign(&r, bob.id.key)
			body, err := chain.AppendPublic(nil, &r)
			if err != nil {
				t.Fatal(err)
			}
			fake.held[ids(r)[0]] = body
			if got, err := bob.get(t.Context(), b, b.handler, r.Hash()); (err == nil) != ok || ok && got.Header != r.Header {
				t.Errorf("%s: %v", text, err)
			}
		}
	})
}

func TestEntryCache(t *testing.T) {
	t.Parallel()
	id := func(i int) dht.ID { return dht.ID{byte(i), byte(i >> 8)} }
	for name, c := range map[string]struct{ size, fit int }{
		"by number": {0, cachedEntries}, "by bytes": {sdk.MaxPublic, cachedBytes / (sdk.MaxPublic + cachedOverhead)},
	} {
		cache := newEntryCache()
		for i := range c.fit {
			cache.add(id(i), sdk.Record{Content: make([]byte, c.size)})
		}
		if r, ok := cache.get(id(0)); !ok || len(r.Content) != c.size || r.Content == nil {
			t.Errorf("%s: the first of %d is gone", name, c.fit)
		}
		cache.add(id(c.fit), sdk.Record{Content: make([]byte, c.size)})
		cache.add(id(c.fit), sdk.Record{Content: make([]byte, c.size)})
		_, used := cache.get(id(0))
		_, unused := cache.get(id(1))
		if !used || unused || cache.used.Len() != c.fit || len(cache.at) != c.fit || cache.bytes != c.fit*(c.size+cachedOverhead) || cache.bytes > cachedBytes {
			t.Errorf("%s: used %t, unused %t, %d entries, %d bytes", name, used, unused, cache.used.Len(), cache.bytes)
		}
	}
}

// A call may wait for a validate while every place for calls is taken: by calls
// that wait for theirs.
func TestGetWithOneCallAtATime(t *testing.T) {
	both(t, func(t *testing.T, cfg Config, d callbackFiles) {
		fake := newFakeEntries()
		cfg.entries, cfg.Limits.HandlerMaxCalls = fake, 1
		n := startNode(t, cfg)
		hashes := map[string]sdk.Hash{}
		for _, text := range []string{"good", "not valid"} {
			r := foreignRecord(t, n.apps.all()[0].hash, text)
			fake.set(func(f *fakeEntries) { f.held[ids(r)[0]] = encodeAnyway(&r) })
			hashes[text] = r.Hash()
		}
		got, err := getNote(t, n, hashes["good"])
		if err != nil || got != "good" {
			t.Errorf("%q, %v", got, err)
		}
		_, err = getNote(t, n, hashes["not valid"])
		if e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true); e.HandlerCode != sdk.HandlerCodeValidate {
			t.Errorf("got %v", e)
		}
		if _, err = getNote(t, n, sdk.Hash{1}); !sdk.IsNotFound(err) {
			t.Errorf("got %v", err)
		}
		// Init is judged by the process that is being started.
		n.stop()
		cfg.DataDir = filepath.Join(shortTempDir(t), "n")
		d.set(t, "init", "get "+hashes["good"].String())
		n = startNode(t, cfg)
		wantTypes(t, n.Node, "born", "parley.init")
		n.stop()
		cfg.DataDir = filepath.Join(shortTempDir(t), "n")
		d.set(t, "init", "get "+hashes["not valid"].String())
		n = startNode(t, cfg)
		if _, err := getNote(t, n, hashes["good"]); !errors.Is(err, sdk.NoHandler) {
			t.Errorf("init got what is not valid: %v", err)
		}
	})
}

func getNote(t *testing.T, n *testNode, record sdk.Hash) (text string, err error) {
	t.Helper()
	in, err := sdk.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	out, err := n.Node.Call(ctx, "callbacks", "get", in)
	if err != nil {
		return "", err
	}
	return text, sdk.Unmarshal(out, &text)
}

// What an agent has published is found while it is away, by one who never had a
// session with it.
func TestEntryOutlivesItsAuthor(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	bob := w.start("bob")
	w.start("carol")
	alice := w.start("alice")
	in, err := sdk.Marshal(sdktest.Step{Op: "commit", Text: "still here", Public: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Call(t.Context(), "do", in); err != nil {
		t.Fatal(err)
	}
	rs, err := alice.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		s, err := alice.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.DHT.EntriesPublished == 1
	})
	alice.stop()
	record := rs[len(rs)-1].Hash()
	w.start("dave")
	dave, err := control.Dial(filepath.Join(w.dir, "dave"))
	if err != nil {
		t.Fatal(err)
	}
	defer dave.Close()
	for _, n := range []control.Node{bob.Node, dave} {
		got, err := n.GetEntry(t.Context(), "conformance", record)
		if err != nil || got.Hash() != record || got.Header.Author != alice.Agent() {
			t.Errorf("%+v, %v", got.Header, err)
		}
	}
}
