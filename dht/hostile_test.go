package dht

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Nodes that take part, and answer what they should not. The honest ones find
// one another, believe nothing, and name nobody who does not exist.
func TestHostileResponders(t *testing.T) {
	t.Parallel()
	fake := func(n int) (cs []Contact) {
		for i := range n {
			cs = append(cs, Contact{Key: Key{byte(i), 0xfa}, Addrs: []netip.AddrPort{testAddr(60000 + i)}})
		}
		return cs
	}
	for name, answer := range map[string]func(victim *Record, req *Request) (*Response, error){
		"nil":               func(*Record, *Request) (*Response, error) { return nil, nil },
		"error":             func(*Record, *Request) (*Response, error) { return nil, errors.New("boom") },
		"fake contacts":     func(*Record, *Request) (*Response, error) { return &Response{Contacts: fake(16)}, nil },
		"too many contacts": func(*Record, *Request) (*Response, error) { return &Response{Contacts: fake(17)}, nil },
		"long reason": func(*Record, *Request) (*Response, error) {
			return &Response{Status: StatusBusy, Reason: strings.Repeat("x", 1<<16)}, nil
		},
		"another's record as its own": func(r *Record, q *Request) (*Response, error) {
			return &Response{Seq: 1 << 62, Record: r}, nil
		},
		"stolen key": func(r *Record, q *Request) (*Response, error) { // an honest key at the liar's address
			return &Response{Contacts: []Contact{{Key: r.Key, Addrs: []netip.AddrPort{testAddr(61000)}}}}, nil
		},
		"forged record": func(r *Record, q *Request) (*Response, error) {
			bad, err := ParseRecord(r.Bytes())
			if err != nil {
				return nil, err
			}
			bad.Seq += 1 << 40
			bad.raw = append(bad.appendBody(nil), make([]byte, 64)...)
			return &Response{Record: bad, Contacts: []Contact{{Key: r.Key, Record: bad}}}, nil
		},
		"newer is known": func(r *Record, q *Request) (*Response, error) {
			return &Response{Status: StatusNewer, Record: r, Seq: 3}, nil
		},
		"clock": func(r *Record, q *Request) (*Response, error) {
			return &Response{Status: StatusFuture, Time: 1}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { hostile(t, answer) })
		})
	}
}

func hostile(t *testing.T, answer func(*Record, *Request) (*Response, error)) {
	m := newMemNet()
	victim := testRecord(t, 3, 1, time.Now())
	boot := m.node(t, 0, nil, nil)
	var honest, liars []*memNode
	for i := 1; i <= 14; i++ {
		n := m.node(t, i, []Contact{boot.contact()}, nil)
		if i%4 != 0 {
			honest = append(honest, n)
			continue
		}
		liars = append(liars, n)
		m.mu.Lock()
		m.answer[n.key] = func(_ Key, req *Request) (*Response, error) { return answer(victim, req) }
		m.mu.Unlock()
	}
	honest = append(honest, boot)
	defer stopAll(append(honest, liars...))
	ready(t, honest...)
	if err := wait(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	allFindAll(t, honest)
	known := map[Key]netip.AddrPort{}
	for _, n := range append(honest, liars...) {
		known[n.key] = n.addr
	}
	for _, n := range honest {
		n.mu.Lock()
		n.core.table.each(func(e *entry) {
			if a, ok := known[e.key()]; !ok || e.ref().Addresses()[0] != a {
				t.Errorf("%s has the contact %s at %v", n.key, e.key(), e.ref().Addresses())
			}
		})
		for id := range n.core.store.records.ids() {
			if h := n.core.store.records.at(id); known[h.rec.Key] != h.rec.Addrs[0] || NodeID(h.rec.Key) != id {
				t.Errorf("%s keeps a wrong record of %s", n.key, h.rec.Key)
			}
		}
		n.mu.Unlock()
		if s := n.Stats(); !s.Ready || s.PublishError != nil {
			t.Errorf("%s: ready %t, %v", n.key, s.Ready, s.PublishError)
		}
	}
}

// Requests without end: nothing grows beyond its bound, and who asks does not
// enter the table by asking.
func TestServeFlood(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, func(c *Config) { c.MaxRecords, c.MaxFloors = 50, 80 })
	for i := range 2000 {
		from := Key{byte(i), byte(i >> 8), 1}
		if _, err := n.Serve(t.Context(), from, testAddr(1), &Request{Op: OpFind, Target: ID{byte(i)}, Seq: 1}); err != nil {
			t.Fatal(err)
		}
		if i < 300 {
			put := &Request{Op: OpPut, Record: testRecord(t, 10+i, 1, n.cfg.Now())}
			if _, err := n.Serve(t.Context(), from, testAddr(1), put); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := n.Stats()
	if s.Contacts != 0 || s.Replacements != 0 || s.Records > 50 || s.Floors > 80 || len(n.core.strangers) != maxProbes || len(n.core.probes) != 0 {
		t.Errorf("%+v, %d probes, %d strangers", s, len(n.core.probes), len(n.core.strangers))
	}
	if _, err := n.Serve(t.Context(), n.key, n.addr, &Request{Op: OpPing}); !errors.Is(err, ErrMessage) {
		t.Errorf("a request of its own: %v", err)
	}
}

// Serve, Lookup and Stats from many goroutines, while the node runs and ends.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := network(t, newMemNet(), 5)
		a := nodes[0]
		ended := make(chan struct{})
		for i := range 300 {
			go func() {
				defer func() { ended <- struct{}{} }()
				r, err := a.Lookup(t.Context(), nodes[i%5].key)
				if err != nil && !errors.Is(err, ErrBusy) {
					t.Errorf("%v: %+v", err, r)
				}
				a.Serve(t.Context(), Key{byte(i)}, testAddr(i), &Request{Op: OpFind, Target: ID{byte(i)}})
				a.Stats()
				a.Snapshot()
			}()
		}
		for range 300 {
			<-ended
		}
		stopAll(nodes)
	})
}
