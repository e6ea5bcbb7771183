package transport

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"
)

func FuzzHandshakeMessage1(f *testing.F) {
	iid, _ := newIdentity(testKey(f, 1), "test")
	rid, _ := newIdentity(testKey(f, 2), "test")
	in, _ := newInitiator(iid, rid.agent, fixedEntropy(f, 1))
	m, _ := in.message1(hello{maxRequests: 1}, nil)
	f.Add(m[2:])
	f.Add(m[2:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newResponder(rid, entropy{})
		if _, err := r.precheck(b); err == nil && !bytes.Equal(b, m[2:]) {
			t.Fatal("a forged mac")
		}
		if len(b) >= minMessage1 && len(b) <= maxMessage1 {
			if err := r.read(b); err == nil && !bytes.Equal(b[macSize:], m[2+macSize:]) {
				t.Fatal("a forged message 1")
			}
		}
	})
}

func FuzzHandshakeMessage2(f *testing.F) {
	iid, _ := newIdentity(testKey(f, 1), "test")
	rid, _ := newIdentity(testKey(f, 2), "test")
	in, _ := newInitiator(iid, rid.agent, fixedEntropy(f, 1))
	m1, _ := in.message1(hello{maxRequests: 1}, nil)
	r := newResponder(rid, fixedEntropy(f, 2))
	if err := r.read(m1[2:]); err != nil {
		f.Fatal(err)
	}
	m2, _, _ := r.message2(hello{maxRequests: 1}, nil)
	f.Add(m2[2:])
	f.Fuzz(func(t *testing.T, b []byte) {
		in, _ := newInitiator(iid, rid.agent, fixedEntropy(t, 1))
		in.message1(hello{maxRequests: 1}, nil)
		if _, err := in.finish(b); err == nil && !bytes.Equal(b, m2[2:]) {
			t.Fatal("a forged message 2")
		}
	})
}

// FuzzEarlyData has a responder answer message 1 with extensions of any kind.
// However that ends, message 2 is no longer than message 1.
func FuzzEarlyData(f *testing.F) {
	c := testConfig(f, &library{answer: func(r *EarlyRead, most int) []byte {
		return bytes.Repeat(r.Body, 1+int(r.Kind)*int(r.Kind))
	}})
	c.Key, c.Listen = testKey(f, 2), ""
	e, err := New(c)
	if err != nil {
		f.Fatal(err)
	}
	id, _ := newIdentity(testKey(f, 1), "test")
	f.Add((&question{kind: 1, body: []byte("q")}).extensions(hello{}))
	f.Add((&question{kind: 255, body: []byte("a long one")}).extensions(hello{}))
	f.Add([]byte{0, 1, 0, 2, 1, 7, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, ext []byte) {
		if len(ext) > maxHello-helloFixed {
			return
		}
		in, err := newInitiator(id, e.id.agent, fixedEntropy(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		m1, err := in.message1(hello{maxRequests: 1}, append([]byte{}, ext...))
		if err != nil {
			t.Fatal(err)
		}
		r := newResponder(e.id, fixedEntropy(t, 2))
		_, early, malformed := parseExtensions(ext)
		m2, _, err := e.answer(r, m1[2:], netip.AddrPort{}, func() bool { return false })
		if (err != nil) != (malformed != nil) {
			t.Fatalf("%v, the extensions: %v", err, malformed)
		}
		if err != nil {
			return
		}
		k, err := in.finish(m2[2:])
		if err != nil || len(m2) > len(m1) || k.early != nil && early == nil || (k.early != nil) != (r.answered != nil) {
			t.Fatalf("%d bytes to %d, early %x, %v", len(m2), len(m1), k.early, err)
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b), minMessage1, maxMessage1)
		if err == nil && (len(m) < minMessage1 || len(m) > maxMessage1) {
			t.Fatal(len(m))
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, hello{clock: 1, maxMessage: 2, maxRequests: 3}))
	f.Add(appendHello(nil, hello{maxRequests: 3, quiet: 600}))
	f.Add(appendHello(nil, hello{maxRequests: 3, quiet: 65535}))
	f.Add(append(appendHello(nil, hello{maxRequests: 3}), 0, 1, 0, 0, 0, 3, 0, 2, 2, 88))
	f.Add(append(appendHello(nil, hello{maxRequests: 3}), 0, 9, 0, 1, 7))
	f.Add(append(appendHello(nil, hello{maxRequests: 3}), (&question{kind: 1, body: []byte("q")}).extensions(hello{})...))
	f.Add(append(appendHello(nil, hello{maxRequests: 3}), 0, 1, 0, 0, 0, 2, 0, 1, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, early, err := parseHello(b)
		if err != nil {
			return
		}
		found := 0
		walkExtensions(b[helloFixed:], func(typ uint16, value []byte) error {
			if typ == extEarly {
				found++
				if early == nil || !bytes.Equal(value, early) {
					t.Fatalf("early data %x, not %x", early, value)
				}
			}
			return nil
		})
		if found > 1 || (found == 1) != (early != nil) {
			t.Fatalf("early data %x, there %d times", early, found)
		}
		fixed := h
		fixed.quiet = 0 // its extension may stand anywhere
		if !bytes.HasPrefix(b, appendHello(nil, fixed)) {
			t.Fatalf("%x is not %+v", b, h)
		}
		if s := h.skew(time.Now()); s > maxSkew || s < -maxSkew {
			t.Fatal(s)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte{0, 40, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			ct, rest, need, err := nextRecord(b)
			if err != nil || need > 0 {
				if need > maxRecord {
					t.Fatal(need)
				}
				return
			}
			if len(ct) < minCiphertext || len(ct)+len(rest)+recordHead != len(b) {
				t.Fatal(len(ct), len(rest))
			}
			b = rest
		}
	})
}

func FuzzFrames(f *testing.F) {
	for _, r := range packPlain(&outMsg{typ: typeRequest, body: []byte("b")}, &outMsg{typ: typeError, id: 1}, &outMsg{typ: typePing}) {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			fr, rest, err := nextFrame(b)
			if err != nil {
				return
			}
			if len(rest)+frameHead+len(fr.payload) != len(b) {
				t.Fatal("bytes are lost")
			}
			if h, header, body, err := parseRequest(fr.payload); err == nil {
				again := append(append(appendRequestHead(nil, &h), header...), body...)
				if !bytes.Equal(again, fr.payload) || len(header) > MaxHeader {
					t.Fatalf("%x became %x", fr.payload, again)
				}
			}
			parseResponse(fr.payload)
			parseError(fr.payload)
			b = rest
		}
	})
}

// FuzzSessionFrames feeds a session's reader with records of any content.
func FuzzSessionFrames(f *testing.F) {
	for _, r := range packPlain(&outMsg{typ: typeRequest, body: make([]byte, 70000)}, &outMsg{typ: typeNotify}, &outMsg{typ: typeCancel, id: 7}) {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := testConfig(t, handlerFunc{})
		c.Key, c.Listen = testKey(t, 1), ""
		c.MaxMessage, c.MaxReassembly, c.MaxReassemblyTotal = 1<<20, 1<<20, 1<<20
		e, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		conn := &nullConn{}
		s, err := e.newSession(conn, PeerKey(testKey(t, 2)[32:]), &keys{peer: hello{maxMessage: 1 << 20, maxRequests: 4}}, true)
		if err != nil {
			t.Fatal(err)
		}
		err = s.onRecord(b)
		if err != nil && !errors.Is(err, ErrProtocol) && err != io.EOF {
			t.Fatalf("%v", err)
		}
		if used := s.serve.asm.used.Load(); used < 0 || used > int64(c.MaxReassembly) {
			t.Fatalf("%d bytes of the budget are used", used)
		}
		s.fail(ErrClosed)
		e.workers.close()
		e.wg.Wait()
	})
}

// FuzzAssembly cuts a message as the input says, with fragments that fit and
// fragments that don't, against a plain copy of what was accepted.
func FuzzAssembly(f *testing.F) {
	f.Add(uint32(300000), []byte{1, 200, 0, 255, 255})
	f.Fuzz(func(t *testing.T, total uint32, cuts []byte) {
		total %= 1 << 20
		b := &budget{max: 600 << 10, total: &budget{max: 500 << 10}}
		var a assembly
		header := []byte("head")
		want := bytes.Clone(header)
		next := func(cut byte) []byte {
			part := bytes.Repeat([]byte{cut}, int(cut)*int(cut)%60000)
			return part[:min(len(part), int(total)+3)]
		}
		first := next(1)
		a.total = int(total)
		if a.check(0, len(first), len(first) == int(total)) != nil {
			return
		}
		if a.begin(header, first, int(total), b) != nil {
			t.Fatal("the first chunk has no room")
		}
		want = append(want, first...)
		for _, cut := range cuts {
			part := next(cut)
			last := a.have+len(part) == a.total
			if err := a.check(a.have, len(part), last); err != nil {
				if a.have+len(part) <= a.total && len(part) > 0 {
					t.Fatal(err)
				}
				continue
			}
			if a.have == a.total {
				break
			}
			if a.add(part, b) != nil {
				a.release(b)
				if b.used.Load() != 0 || b.total.used.Load() != 0 {
					t.Fatal("the budget is not given back")
				}
				return
			}
			if want = append(want, part...); b.used.Load() > b.max || int64(a.held) != b.used.Load() {
				t.Fatal("over the budget")
			}
		}
		if a.have != a.total {
			return
		}
		b.give(a.held)
		h, body := a.join()
		if !bytes.Equal(h, header) || !bytes.Equal(append(h, body...), want) || b.used.Load() != 0 {
			t.Fatal("another message came out")
		}
	})
}

func FuzzAgentKey(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, u []byte) {
		k, err := agentKey(u)
		if err != nil {
			return
		}
		back, err := montgomery(k)
		if err != nil || !bytes.Equal(back, u) {
			t.Fatalf("%x -> %s -> %x, %v", u, k, back, err)
		}
	})
}
