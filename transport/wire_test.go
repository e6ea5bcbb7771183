package transport

import (
	"bytes"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flynn/noise"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

// vectors is a file of named hex values: "# comment", "name = hex", where a
// value goes on in lines that begin with a space.
type vectors struct {
	t    *testing.T
	path string
	out  strings.Builder
	in   map[string]string
}

func openVectors(t *testing.T, path, title string) *vectors {
	v := &vectors{t: t, path: path, in: make(map[string]string)}
	fmt.Fprintf(&v.out, "# %s\n", title)
	b, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	name := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == ' ':
			v.in[name] += strings.TrimSpace(line)
		default:
			var value string
			name, value, _ = strings.Cut(line, " =")
			v.in[name] = strings.TrimSpace(value)
		}
	}
	return v
}

func (v *vectors) check(name, comment string, got []byte) {
	v.t.Helper()
	fmt.Fprintf(&v.out, "\n# %s\n%s =", comment, name)
	for h := hex.EncodeToString(got); ; {
		n := min(len(h), 96)
		fmt.Fprintf(&v.out, "\n  %s", h[:n])
		if h = h[n:]; h == "" {
			break
		}
	}
	v.out.WriteString("\n")
	if *update {
		return
	}
	if want := v.in[name]; want != hex.EncodeToString(got) {
		v.t.Errorf("%s: %s has\n%s\nnot\n%x", v.path, name, want, got)
	}
}

func (v *vectors) close() {
	if *update {
		if err := os.WriteFile(v.path, []byte(v.out.String()), 0o644); err != nil {
			v.t.Fatal(err)
		}
	}
}

type fixedReader byte

func (r fixedReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r)
	}
	return len(b), nil
}

// fixedEntropy makes a handshake a function of its inputs.
func fixedEntropy(t testing.TB, b byte) entropy {
	return entropy{
		random: fixedReader(b),
		newKEM: func() (*mlkem.DecapsulationKey768, error) {
			return mlkem.NewDecapsulationKey768(bytes.Repeat([]byte{b}, mlkem.SeedSize))
		},
		encapsulate: func(ek *mlkem.EncapsulationKey768) (secret, ct []byte) {
			secret, ct, err := mlkemtest.Encapsulate768(ek, bytes.Repeat([]byte{b}, 32))
			if err != nil {
				t.Fatal(err)
			}
			return secret, ct
		},
	}
}

func TestGoldenHandshake(t *testing.T) {
	t.Parallel()
	v := openVectors(t, "testdata/handshake.hex", "One handshake with fixed keys and randomness, network \"test\". See docs/wire.md.")
	defer v.close()
	ikey, rkey := testKey(t, 1), testKey(t, 2)
	iid, err := newIdentity(ikey, "test")
	if err != nil {
		t.Fatal(err)
	}
	rid, _ := newIdentity(rkey, "test")
	v.check("initiator_seed", "Ed25519 seed of the initiator", ikey.Seed())
	v.check("initiator_agent", "its agent key", iid.agent[:])
	v.check("initiator_static_private", "its X25519 static key, clamped", iid.static.Private)
	v.check("initiator_static", "and the public half", iid.static.Public)
	v.check("responder_seed", "Ed25519 seed of the responder", rkey.Seed())
	v.check("responder_agent", "its agent key", rid.agent[:])
	v.check("responder_static", "its X25519 static key", rid.static.Public)
	v.check("prologue", "protocol name, 0, length and name of the network", iid.prologue)
	v.check("mac_key", "key of message 1's mac", rid.macKey)
	v.check("initiator_ephemeral_private", "the initiator's ephemeral X25519 key", bytes.Repeat([]byte{0x11}, 32))
	v.check("initiator_kem_seed", "seed (d, z) of its ML-KEM-768 key", bytes.Repeat([]byte{0x11}, 64))
	v.check("responder_ephemeral_private", "the responder's ephemeral X25519 key", bytes.Repeat([]byte{0x22}, 32))
	v.check("responder_kem_random", "m of the responder's ML-KEM-768 encapsulation", bytes.Repeat([]byte{0x22}, 32))
	in, err := newInitiator(iid, rid.agent, fixedEntropy(t, 0x11))
	if err != nil {
		t.Fatal(err)
	}
	hi := hello{clock: 1700000000000, maxMessage: 16 << 20, maxRequests: 256}
	hr := hello{clock: 1700000000123, maxMessage: 1 << 20, maxRequests: 64}
	v.check("initiator_hello", "the initiator's hello: clock 1700000000000, 16 MiB, 256 requests", appendHello(nil, hi))
	v.check("responder_hello", "the responder's hello: clock 1700000000123, 1 MiB, 64 requests", appendHello(nil, hr))
	quiet := hi
	quiet.quiet = 100
	v.check("quiet_hello", "the initiator's hello that announces a quiet session: 100 s", appendHello(nil, quiet))
	if got, _, err := parseHello(appendHello(nil, quiet)); err != nil || got != quiet {
		t.Fatalf("%+v, %v", got, err)
	}
	m1, err := in.message1(hi, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.check("message_1", "message 1 as it goes onto the wire", m1)
	r := newResponder(rid, fixedEntropy(t, 0x22))
	if _, err := r.precheck(m1[2:]); err != nil {
		t.Fatal(err)
	}
	if err := r.read(m1[2:]); err != nil {
		t.Fatal(err)
	}
	if r.agent != iid.agent || r.peer != hi {
		t.Fatalf("the responder sees %s, %+v", r.agent, r.peer)
	}
	m2, rk, err := r.message2(hr, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.check("message_2", "message 2 as it goes onto the wire", m2)
	ik, err := in.finish(m2[2:])
	if err != nil {
		t.Fatal(err)
	}
	if ik.send != rk.recv || ik.recv != rk.send || ik.peer != hr || ik.send == ik.recv {
		t.Fatal("the two sides have different keys")
	}
	v.check("key_initiator", "transport key of the records that the initiator sends", ik.send[:])
	v.check("key_responder", "transport key of the records that the responder sends", rk.send[:])
	d, _ := newDirection(ik.send)
	for i := range 2 {
		w := &writeBuf{b: make([]byte, batchSize)}
		q := outQueue{}
		q.push(&outMsg{typ: typePing, id: uint64(i + 1)})
		q.pack(w, time.Time{}, nil, func(*outMsg) {})
		rec, err := w.seal(d)
		if err != nil {
			t.Fatal(err)
		}
		v.check(fmt.Sprintf("record_%d", i), fmt.Sprintf("the initiator's record %d: a ping with id %d", i, i+1), rec)
	}
	goldenEarly(t, v, iid, rid, hi, hr)
}

// goldenEarly is the same handshake with a question and its answer.
func goldenEarly(t *testing.T, v *vectors, iid, rid *identity, hi, hr hello) {
	q := &question{kind: 1, body: []byte("question")}
	in, err := newInitiator(iid, rid.agent, fixedEntropy(t, 0x11))
	if err != nil {
		t.Fatal(err)
	}
	v.check("early_initiator_hello", "the initiator's hello with early data: a question of kind 1, body \"question\", and padding",
		append(appendHello(nil, hi), q.extensions(hi)...))
	m1, err := in.message1(hi, q.extensions(hi))
	if err != nil || len(m1) != 4096 {
		t.Fatal(len(m1), err)
	}
	v.check("early_message_1", "message 1 with it", m1)
	r := newResponder(rid, fixedEntropy(t, 0x22))
	if err := r.read(m1[2:]); err != nil || string(r.early) != "\x01question" {
		t.Fatalf("%q, %v", r.early, err)
	}
	if room := answerRoom(len(m1)-2, hr); room != 2937 {
		t.Errorf("room for %d bytes", room)
	}
	ext := appendExtension(nil, extEarly, []byte("answer"))
	v.check("early_responder_hello", "the responder's hello with the answer \"answer\"", append(appendHello(nil, hr), ext...))
	m2, _, err := r.message2(hr, ext)
	if err != nil {
		t.Fatal(err)
	}
	v.check("early_message_2", "message 2 with it", m2)
	if k, err := in.finish(m2[2:]); err != nil || string(k.early) != "answer" || k.peer != hr {
		t.Fatalf("%+v, %v", k, err)
	}
}

func TestHandshakeRefuses(t *testing.T) {
	t.Parallel()
	iid, _ := newIdentity(testKey(t, 1), "test")
	rid, _ := newIdentity(testKey(t, 2), "test")
	other, _ := newIdentity(testKey(t, 3), "test")
	foreign, _ := newIdentity(testKey(t, 2), "another network")
	message1 := func() []byte {
		in, err := newInitiator(iid, rid.agent, entropy{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := in.message1(hello{maxRequests: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m[2:]
	}
	m := message1()
	for name, id := range map[string]*identity{"another key": other, "another network": foreign} {
		if _, err := newResponder(id, entropy{}).precheck(m); !errors.Is(err, errStranger) {
			t.Errorf("%s: %v", name, err)
		}
		if err := newResponder(id, entropy{}).read(m); !errors.Is(err, errStranger) {
			t.Errorf("%s, without the mac: %v", name, err)
		}
	}
	for _, at := range []int{0, macSize, macSize + 40, macSize + 100, len(m) - 1} {
		bad := bytes.Clone(m)
		bad[at] ^= 1
		if _, err := newResponder(rid, entropy{}).precheck(bad); err == nil {
			t.Errorf("byte %d changed: the mac is right", at)
		}
		if at >= macSize && newResponder(rid, entropy{}).read(bad) == nil {
			t.Errorf("byte %d changed: accepted", at)
		}
	}
	self, _ := newInitiator(rid, rid.agent, entropy{})
	ms, _ := self.message1(hello{maxRequests: 1}, nil)
	if err := newResponder(rid, entropy{}).read(ms[2:]); !errors.Is(err, ErrSelf) {
		t.Errorf("a handshake with oneself: %v", err)
	}
}

func TestMessage2Refused(t *testing.T) {
	t.Parallel()
	iid, _ := newIdentity(testKey(t, 1), "test")
	rid, _ := newIdentity(testKey(t, 2), "test")
	for _, at := range []int{0, mlkem.CiphertextSize768 - 1, mlkem.CiphertextSize768, mlkem.CiphertextSize768 + 40} {
		in, _ := newInitiator(iid, rid.agent, entropy{})
		m1, _ := in.message1(hello{maxRequests: 1}, nil)
		r := newResponder(rid, entropy{})
		if err := r.read(m1[2:]); err != nil {
			t.Fatal(err)
		}
		m2, _, err := r.message2(hello{maxRequests: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m2[2+at] ^= 1
		if _, err := in.finish(m2[2:]); !errors.Is(err, ErrProtocol) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}

// pack frames ms and returns the plaintexts of the records.
func packPlain(ms ...*outMsg) [][]byte {
	q := outQueue{lastID: 6}
	for _, m := range ms {
		if m.call == nil {
			m.call = &call{}
		}
		q.push(m)
	}
	var records [][]byte
	for !q.empty() {
		w := &writeBuf{b: make([]byte, batchSize)}
		q.pack(w, time.Unix(100, 0), func(*outMsg) {}, func(*outMsg) {})
		start := 0
		for _, end := range w.records[:w.n] {
			records = append(records, bytes.Clone(w.b[start+recordHead:end]))
			start = end + recordTag
		}
	}
	return records
}

func TestGoldenFrames(t *testing.T) {
	t.Parallel()
	v := openVectors(t, "testdata/frames.hex", "Every frame type, as it stands in a record's plaintext. See docs/wire.md.")
	defer v.close()
	id := [16]byte{0: 0xa0, 15: 0xaf}
	for _, c := range []struct {
		name, comment string
		msg           outMsg
	}{
		{"request", "request 7, kind 2, message id a0..af, 1,500 ms left, header \"hd\", body \"body\"", outMsg{typ: typeRequest, kind: 2, messageID: id, call: &call{deadline: time.Unix(101, 5e8)}, header: []byte("hd"), body: []byte("body")}},
		{"request_empty", "request 7, kind 1, no deadline, no header, no body", outMsg{typ: typeRequest, kind: 1, messageID: id}},
		{"response", "response to 9, body \"body\"", outMsg{typ: typeResponse, id: 9, body: []byte("body")}},
		{"error_application", "error for 9 from the handler, body \"no\"", outMsg{typ: typeError, id: 9, body: []byte("no")}},
		{"error_busy", "error for 9: busy, requests served at once 257 of 256, again in 100 ms", outMsg{typ: typeError, id: 9, errHead: &errorHead{code: uint8(Busy), limit: limitRequests, value: 257, max: 256, retry: 100}}},
		{"cancel", "cancel 9", outMsg{typ: typeCancel, id: 9, code: uint8(Canceled)}},
		{"notify", "notify 7, kind 2, body \"body\"", outMsg{typ: typeNotify, kind: 2, messageID: id, body: []byte("body")}},
		{"ping", "ping 3", outMsg{typ: typePing, id: 3}},
		{"pong", "pong 3", outMsg{typ: typePong, id: 3}},
		{"go_away", "go-away, drain, replaced", outMsg{typ: typeGoAway, code: goAwayDrain, reason: reasonReplaced}},
		{"bye", "go-away, bye, shutdown", outMsg{typ: typeGoAway, code: goAwayBye, reason: reasonShutdown}},
	} {
		records := packPlain(&c.msg)
		if len(records) != 1 {
			t.Fatalf("%s: %d records", c.name, len(records))
		}
		v.check(c.name, c.comment, records[0])
	}
	large := packPlain(&outMsg{typ: typeRequest, kind: 2, messageID: id, body: make([]byte, 70000)}, &outMsg{typ: typePing, id: 1})
	for i, r := range large {
		for len(r) > 0 {
			f, rest, err := nextFrame(r)
			if err != nil {
				t.Fatal(err)
			}
			v.check(fmt.Sprintf("large_%d_%d", i, f.typ), "head of a frame: request 7 of 70,000 bytes beside ping 1", r[:frameHead])
			r = rest
		}
	}
}

func TestRecordLimits(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, minCiphertext - 1, maxRecord - 1, maxRecord} {
		if _, _, _, err := nextRecord([]byte{byte(n >> 8), byte(n), 0}); !errors.Is(err, ErrProtocol) {
			t.Errorf("a record of %d bytes: %v", n, err)
		}
	}
	d, _ := newDirection([32]byte{})
	d.n = math.MaxUint64 - 1
	if _, err := d.seal(make([]byte, 20, 40)); err != nil {
		t.Error(err)
	}
	if _, err := d.seal(make([]byte, 20, 40)); !errors.Is(err, noise.ErrMaxNonce) {
		t.Errorf("after the last nonce: %v", err)
	}
	if _, err := d.open(make([]byte, 40)); !errors.Is(err, noise.ErrMaxNonce) {
		t.Errorf("after the last nonce: %v", err)
	}
}

// TestRecordsMatchNoise holds our in-place records against the library's CipherState.
func TestRecordsMatchNoise(t *testing.T) {
	t.Parallel()
	key := [32]byte{1, 2, 3}
	ours, _ := newDirection(key)
	theirs := noise.UnsafeNewCipherState(suite, key, 0)
	for i := range 300 {
		plain := bytes.Repeat([]byte{byte(i)}, i)
		rec, err := ours.seal(append(make([]byte, recordHead, 1000), plain...))
		if err != nil {
			t.Fatal(err)
		}
		want, err := theirs.Encrypt(nil, nil, plain)
		if err != nil || !bytes.Equal(rec[recordHead:], want) {
			t.Fatalf("record %d differs: %v", i, err)
		}
	}
}

func TestPackIsFair(t *testing.T) {
	t.Parallel()
	big := &outMsg{typ: typeResponse, id: 1, body: make([]byte, 1<<20)}
	ms := []*outMsg{big, {typ: typeResponse, id: 2, body: make([]byte, 1<<20)}}
	for i := range 2000 {
		ms = append(ms, &outMsg{typ: typeResponse, id: uint64(10 + i), body: make([]byte, 200)})
	}
	small, bigs := 0, map[uint64]int{}
	for i, r := range packPlain(ms...) {
		if len(r) > maxPlaintext {
			t.Fatalf("record of %d bytes", len(r))
		}
		for len(r) > 0 {
			f, rest, err := nextFrame(r)
			if err != nil {
				t.Fatal(err)
			}
			if r = rest; f.id >= 10 {
				small++
			} else if bigs[f.id] += len(f.payload); i < 2 && f.id > 2 {
				t.Fatal("large first")
			}
		}
		if i == 1 && (small == 0 || small == 2000 || bigs[1]+bigs[2] == 0) {
			t.Errorf("first write: %d small ones, %v of the large ones", small, bigs)
		}
		if i == 12 && (small != 2000 || bigs[2] == 0) {
			t.Errorf("%d small ones and %v are through", small, bigs)
		}
	}
	if small != 2000 || bigs[1] != 1<<20+4 || bigs[2] != 1<<20+4 {
		t.Errorf("%d %v", small, bigs)
	}
}
