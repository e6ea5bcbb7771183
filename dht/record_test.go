package dht

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var epoch = time.UnixMilli(1_800_000_000_000)

// goldenRecords are what testdata/record-*.hex hold; docs/wire.md refers to them.
func goldenRecords(t testing.TB) map[string]*Record {
	t.Helper()
	base := Record{Key: pub(testKey(1)), Flags: FlagServer, Seq: 1_800_000_000_000, IssuedAt: epoch, TTL: 2 * time.Hour,
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4001")}}
	both := base
	both.Seq++
	both.Addrs = append(both.Addrs[:1:1], netip.MustParseAddrPort("[2001:db8::7]:65535"))
	both.Ext = []byte("later")
	gone := base
	gone.Seq += 2
	gone.Flags, gone.Addrs = FlagClient|FlagTombstone, nil
	out := map[string]*Record{}
	for name, r := range map[string]Record{"ipv4": base, "both-ext": both, "tombstone": gone} {
		signed, err := r.Sign(testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = signed
	}
	return out
}

// readHex reads a file of hexadecimal digits; "#" begins a comment.
func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	for name, want := range goldenRecords(t) {
		b := readHex(t, "record-"+name+".hex")
		if !bytes.Equal(b, want.Bytes()) {
			t.Errorf("%s: the encoding changed:\n%x", name, want.Bytes())
		}
		got, err := ParseRecord(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := errors.Join(got.Verify(), got.Current(epoch)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	key := pub(testKey(1))
	if id := readHex(t, "node-id.hex"); !bytes.Equal(id[:32], key[:]) || NodeID(key) != ID(id[32:]) {
		t.Errorf("id of %x: %x", key[:], NodeID(key))
	}
}

// No record that differs in a single bit, is cut short or has a byte more is accepted.
func TestMutatedRecords(t *testing.T) {
	t.Parallel()
	accepted := func(b []byte) bool {
		r, err := ParseRecord(b)
		return err == nil && r.Verify() == nil
	}
	for name, r := range goldenRecords(t) {
		good := r.Bytes()
		if !accepted(good) {
			t.Fatalf("%s: not accepted", name)
		}
		for i := range good {
			for bit := range 8 {
				b := bytes.Clone(good)
				b[i] ^= 1 << bit
				if accepted(b) {
					t.Errorf("%s: byte %d, bit %d changed: accepted", name, i, bit)
				}
			}
			if accepted(good[:i]) {
				t.Errorf("%s: cut to %d bytes: accepted", name, i)
			}
		}
		if accepted(append(bytes.Clone(good), 0)) {
			t.Errorf("%s: a trailing byte: accepted", name)
		}
	}
}

func TestRecordDomain(t *testing.T) {
	t.Parallel()
	r := goldenRecords(t)["ipv4"]
	body := r.Bytes()[:len(r.Bytes())-64]
	for _, domain := range []string{"", "dht-record-v2", "dht-node-v1"} {
		b := append(bytes.Clone(body), ed25519.Sign(testKey(1), append([]byte(domain), body...))...)
		forged, err := ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if forged.Verify() == nil {
			t.Errorf("domain %q: accepted", domain)
		}
	}
}

// Points of low order: a signature for them needs no secret.
func TestLowOrderKeys(t *testing.T) {
	t.Parallel()
	for _, h := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // not canonical
		"0100000000000000000000000000000000000000000000000000000000000080", // sign bit
	} {
		b, _ := hex.DecodeString(h)
		if Key(b).valid() == nil {
			t.Errorf("%s is taken for an agent's key", h)
		}
		r := goldenRecords(t)["ipv4"]
		forged := bytes.Clone(r.Bytes())
		copy(forged[3:], b)
		clear(forged[len(forged)-64:])
		forged[len(forged)-64] = 1 // R = identity, S = 0
		if p, err := ParseRecord(forged); err == nil && p.Verify() == nil {
			t.Errorf("a record of %s is accepted", h)
		}
	}
}

func TestRecordBounds(t *testing.T) {
	t.Parallel()
	good := Record{Key: pub(testKey(1)), Flags: FlagServer, Seq: 1, IssuedAt: epoch, TTL: time.Hour, Addrs: []netip.AddrPort{testAddr(1)}}
	if _, err := good.Sign(testKey(1)); err != nil {
		t.Fatal(err)
	}
	full := good
	full.Addrs = nil
	for i := range MaxAddrs {
		full.Addrs = append(full.Addrs, netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), uint16(i+1)))
	}
	full.Ext = make([]byte, MaxExt)
	r, err := full.Sign(testKey(1))
	if err != nil || len(r.Bytes()) > MaxRecord {
		t.Fatalf("the greatest record: %d bytes, %v", len(r.Bytes()), err)
	}
	addr := func(s string) func(*Record) {
		return func(r *Record) { r.Addrs = []netip.AddrPort{netip.MustParseAddrPort(s)} }
	}
	for name, edit := range map[string]func(*Record){
		"seq 0":            func(r *Record) { r.Seq = 0 },
		"no flag":          func(r *Record) { r.Flags = 0 },
		"both flags":       func(r *Record) { r.Flags = FlagServer | FlagClient },
		"unknown flag":     func(r *Record) { r.Flags |= 8 },
		"tombstone, addrs": func(r *Record) { r.Flags |= FlagTombstone },
		"no addrs":         func(r *Record) { r.Addrs = nil },
		"nine addrs":       func(r *Record) { r.Addrs = append(full.Addrs[:8:8], testAddr(1)) },
		"twice":            func(r *Record) { r.Addrs = append(r.Addrs[:1:1], r.Addrs[0]) },
		"short ttl":        func(r *Record) { r.TTL = MinTTL - time.Second },
		"long ttl":         func(r *Record) { r.TTL = MaxTTL + time.Second },
		"ext":              func(r *Record) { r.Ext = make([]byte, MaxExt+1) },
		"before 1970":      func(r *Record) { r.IssuedAt = time.UnixMilli(-1) },
		"port 0":           addr("192.0.2.1:0"),
		"unspecified":      addr("0.0.0.0:1"),
		"unspecified 6":    addr("[::]:1"),
		"multicast":        addr("224.0.0.1:1"),
		"zone":             addr("[fe80::1%eth0]:1"),
		"4 in 6":           addr("[::ffff:192.0.2.1]:1"),
		"other key":        func(r *Record) { r.Key = pub(testKey(2)) },
	} {
		r := good
		edit(&r)
		if _, err := r.Sign(testKey(1)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecordTime(t *testing.T) {
	t.Parallel()
	r := testRecord(t, 1, 1, epoch)
	for d, ok := range map[time.Duration]bool{
		0: true, -10 * time.Minute: true, -10*time.Minute - time.Millisecond: false,
		2*time.Hour - time.Millisecond: true, 2 * time.Hour: false,
	} {
		if err := r.Current(epoch.Add(d)); (err == nil) != ok {
			t.Errorf("%s after it was issued: %v", d, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, r := range goldenRecords(f) {
		f.Add(r.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !bytes.Equal(r.Bytes(), b) || !bytes.Equal(r.appendBody(nil), b[:len(b)-64]) {
			t.Errorf("two encodings of one record: %x", b)
		}
	})
}

func BenchmarkRecordSign(b *testing.B) {
	r := *goldenRecords(b)["ipv4"]
	for b.Loop() {
		if _, err := r.Sign(testKey1); err != nil {
			b.Fatal(err)
		}
	}
}

var testKey1 = testKey(1)

func BenchmarkRecordVerify(b *testing.B) {
	r := goldenRecords(b)["ipv4"]
	for b.Loop() {
		if err := r.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecordParse(b *testing.B) {
	raw := goldenRecords(b)["ipv4"].Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(raw); err != nil {
			b.Fatal(err)
		}
	}
}
