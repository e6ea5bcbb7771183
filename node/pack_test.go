package node

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

// A header of everything that one may have at its longest is within the protocol's
// limit, whatever the proof.
func TestLargestHeader(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("n", sdk.MaxName)
	for _, proof := range []int{headerProof, headerProof + 1, sdk.MaxProof} {
		behalf := make([]byte, proof)
		m := outgoing{app: &app{name: name}, left: true, began: time.Unix(0, 0), body: pack(behalf, nil), header: messageHeader{
			Function: name, Notified: true, Order: make([]byte, orderSize), Claim: make([]byte, agency.ClaimSize),
			Receipt: make([]byte, sdk.MaxReceiptRequest), Behalf: behalf}}
		b, err := m.encodeHeader(time.Unix(1<<32, 0))
		if err != nil || len(b) > transport.MaxHeader {
			t.Errorf("with a proof of %d bytes the header has %d, %v", proof, len(b), err)
		}
	}
}

// A proof of any size comes out as it went in, and the payload with it.
func TestPack(t *testing.T) {
	t.Parallel()
	for _, proof := range []int{0, 5, headerProof, headerProof + 1, sdk.MaxProof} {
		for _, payload := range []string{"", "payload"} {
			behalf := bytes.Repeat([]byte{7}, proof)
			m := outgoing{app: &app{name: "auction"}, payload: []byte(payload), body: pack(behalf, []byte(payload)), header: messageHeader{Function: "bid", Behalf: behalf}}
			b, err := m.encodeHeader(time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			h, err := parseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			got, e := h.unpack(m.wireBody())
			if e != nil || string(got) != payload || !bytes.Equal(h.Behalf, behalf) || !bytes.Equal(m.header.Behalf, behalf) {
				t.Errorf("a proof of %d bytes before %q: %d before %q, %v", proof, payload, len(h.Behalf), got, e)
			}
		}
	}
	for name, c := range map[string]struct {
		length [4]byte
		body   int
	}{
		"nothing":       {[4]byte{}, 100},
		"of 4 bytes":    {[4]byte{0, 0, 0, 4}, 100},
		"not there":     {[4]byte{0, 0, 0, 101}, 100},
		"too large":     {[4]byte{0, 0, 0x40, 1}, 1 << 20},
		"most negative": {[4]byte{0x80, 0, 0, 0}, 100},
		"nobody's":      {[4]byte{0xff, 0xff, 0xff, 0xff}, 0},
	} {
		h := messageHeader{Behalf: c.length[:]}
		if got, e := h.unpack(make([]byte, c.body)); e == nil || e.Delivered != sdk.DeliveredNo {
			t.Errorf("%s: %d bytes of payload, %v", name, len(got), e)
		}
	}
}
