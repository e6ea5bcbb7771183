package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// dhtRequest and dhtResponse are dht.Request and dht.Response on the wire, as
// the body of a request of kind 1 (docs/wire.md).
type dhtRequest struct {
	Op       uint8  `codec:"o"`
	Target   []byte `codec:"t,omitempty"` // 32 bytes
	Seq      uint64 `codec:"q,omitempty"`
	KnownSeq uint64 `codec:"k,omitempty"`
	Record   []byte `codec:"r,omitempty"`
	Near     []byte `codec:"i,omitempty"` // 32 bytes
	Entry    []byte `codec:"b,omitempty"`
	Known    []byte `codec:"x,omitempty"` // 8 bytes each
	Have     []byte `codec:"d,omitempty"` // 24 bytes each
	Addr     []byte `codec:"a,omitempty"` // as in dhtContact
	Age      uint32 `codec:"g,omitempty"`
}

type dhtResponse struct {
	Status     uint8        `codec:"s"`
	Seq        uint64       `codec:"q,omitempty"`
	Time       uint64       `codec:"n,omitempty"`
	Record     []byte       `codec:"r,omitempty"`
	Contacts   []dhtContact `codec:"c,omitempty"`
	RetryAfter uint32       `codec:"w,omitempty"`
	Reason     string       `codec:"e,omitempty"`
	Entry      []byte       `codec:"b,omitempty"`
	Want       []byte       `codec:"d,omitempty"`
}

type dhtContact struct {
	Key    []byte   `codec:"k,omitempty"` // without a record only: a record names its agent
	Addrs  [][]byte `codec:"a,omitempty"` // each an address of 4 or 16 bytes, then the port, big-endian
	Record []byte   `codec:"r,omitempty"`
}

// maxDHTMessage bounds a request's or a response's encoding: 16 contacts with a
// record of 1 KiB each, one more record, and what is around them.
const maxDHTMessage = 20 << 10

// dhtCallLimit bounds one question to one node, and within it the dialling.
const dhtCallLimit = 5 * time.Second

func (n *Node) dhtConfig() dht.Config {
	cfg := dht.Config{Key: n.id.key, Network: dhtNetwork{n}, Addrs: n.advertised, CheckEntry: n.checkEntry, Log: n.cfg.Log.With("part", "dht")}
	for _, p := range n.cfg.Bootstrap {
		if p.Agent != n.id.agent {
			cfg.Bootstrap = append(cfg.Bootstrap, dht.Contact{Key: dht.Key(p.Agent)})
		}
	}
	return cfg
}

// advertised are the addresses to publish; none before the node listens.
func (n *Node) advertised() []netip.AddrPort {
	if len(n.cfg.Advertise) > 0 {
		return n.cfg.Advertise
	}
	return advertised(nil, n.endpoint.Addr(), interfaceAddrs())
}

const (
	// pingAround is what a PING's answer has around the record, in bytes, at most.
	pingAround = 31
	// pingUnknown is the room for a PING's answer in a handshake where the record is not
	// known: it holds one with eight addresses and no extension.
	pingUnknown = 384
	// briefAnswer is the room for the answer to a FIND or GET that names what it knows: some eight
	// further contacts. Nobody waits for the third round trip of a longer one.
	briefAnswer = 1280
)

// pingAnswer is the room for the answer of to to a PING in a handshake, in bytes. Its record is
// mostly as long as the one that is known; a longer one comes over the session. Most handshakes carry
// a PING, so that padding would be much of what the network costs.
func pingAnswer(to dht.Contact) int {
	if to.Record == nil {
		return pingUnknown
	}
	return pingAround + len(to.Record.Bytes())
}

// dhtNetwork asks other nodes over sessions.
type dhtNetwork struct{ node *Node }

func (d dhtNetwork) Call(ctx context.Context, to dht.Contact, req *dht.Request) (*dht.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, dhtCallLimit)
	defer cancel()
	body, err := encodeDHTRequest(req)
	if err != nil {
		return nil, err
	}
	o := transport.Outgoing{Kind: kindDHT, ID: newMessageID(), Body: body}
	switch {
	case req.Op == dht.OpPing:
		o.Answer = pingAnswer(to)
	case len(req.Known) > 0:
		o.Answer = briefAnswer
	}
	reply, err := d.ask(ctx, to, req.Op, o)
	if err != nil {
		return nil, err
	}
	return decodeDHTResponse(reply)
}

var (
	_ dht.DialBacker         = dhtNetwork{}
	_ dht.Linker             = dhtNetwork{}
	_ transport.SessionEnder = (*Node)(nil)

	_ transport.SessionBeginner = (*Node)(nil)
)

// Linked tells whether a session is open.
func (d dhtNetwork) Linked(k dht.Key) bool {
	_, ok := d.node.endpoint.Live(transport.PeerKey(k))
	return ok
}

// SessionBegan tells the DHT of a session, and ends the pause of the address that
// was dialled: the dial may have taken longer than whoever began it waited.
func (n *Node) SessionBegan(peer transport.PeerKey, dialled netip.AddrPort) {
	if dialled.IsValid() {
		n.backoff.worked(dialled)
	}
	n.dht.Opened(dht.Key(peer), dialled)
}

// SessionLost tells the DHT of a session that ended without a goodbye.
func (n *Node) SessionLost(peer transport.PeerKey) { n.dht.Suspect(dht.Key(peer)) }

// DialBack dials an agent at one address, whether a session is open or not.
func (d dhtNetwork) DialBack(ctx context.Context, k dht.Key, addr netip.AddrPort) error {
	return d.node.endpoint.Reach(ctx, transport.PeerKey(k), addr)
}

func (n *Node) serveDHT(ctx context.Context, r *transport.Request) ([]byte, error) {
	n.traffic.dhtRequests.Add(1)
	req, err := decodeDHTRequest(r.Body)
	if err != nil {
		return nil, &transport.RequestError{Code: transport.Unsupported, Err: err}
	}
	resp, err := n.dht.Serve(ctx, dht.Key(r.Peer), r.Addr, req)
	if err != nil {
		return nil, err
	}
	return encodeDHTResponse(resp)
}

func encodeDHTRequest(r *dht.Request) ([]byte, error) {
	w := dhtRequest{Op: uint8(r.Op), Seq: r.Seq, KnownSeq: r.KnownSeq, Record: recordBytes(r.Record), Entry: r.Entry, Known: r.Known, Have: r.Have, Age: r.Age}
	if r.Target != (dht.ID{}) {
		w.Target = r.Target[:]
	}
	if r.Near != (dht.ID{}) {
		w.Near = r.Near[:]
	}
	if r.Addr.IsValid() {
		w.Addr = encodeAddr(r.Addr)
	}
	return sdk.Marshal(w)
}

func decodeDHTRequest(b []byte) (*dht.Request, error) {
	var w dhtRequest
	if err := decodeDHT(b, &w); err != nil {
		return nil, err
	}
	r := &dht.Request{Op: dht.Op(w.Op), Seq: w.Seq, KnownSeq: w.KnownSeq, Entry: w.Entry, Known: w.Known, Have: w.Have, Age: w.Age}
	var err error
	if r.Target, err = decodeID(w.Target); err != nil {
		return nil, err
	}
	if r.Near, err = decodeID(w.Near); err != nil {
		return nil, err
	}
	if w.Addr != nil {
		if r.Addr, err = decodeAddr(w.Addr); err != nil {
			return nil, err
		}
	}
	if r.Record, err = parseRecord(w.Record); err != nil {
		return nil, err
	}
	return r, r.Validate()
}

func encodeDHTResponse(r *dht.Response) ([]byte, error) {
	w := dhtResponse{Status: uint8(r.Status), Seq: r.Seq, Time: r.Time, Record: recordBytes(r.Record), RetryAfter: r.RetryAfter, Reason: r.Reason, Entry: r.Entry, Want: r.Want}
	for i := range r.Contacts {
		c := &r.Contacts[i]
		wc := dhtContact{Record: recordBytes(c.Record)}
		if c.Record == nil {
			wc.Key = c.Key[:]
			for _, a := range c.Addrs {
				wc.Addrs = append(wc.Addrs, encodeAddr(a))
			}
		}
		w.Contacts = append(w.Contacts, wc)
	}
	return sdk.Marshal(w)
}

func decodeDHTResponse(b []byte) (*dht.Response, error) {
	var w dhtResponse
	if err := decodeDHT(b, &w); err != nil {
		return nil, err
	}
	if len(w.Contacts) > dht.MaxContacts {
		return nil, fmt.Errorf("%d contacts, at most %d", len(w.Contacts), dht.MaxContacts)
	}
	r := &dht.Response{Status: dht.Status(w.Status), Seq: w.Seq, Time: w.Time, RetryAfter: w.RetryAfter, Reason: w.Reason, Entry: w.Entry, Want: w.Want}
	var err error
	if r.Record, err = parseRecord(w.Record); err != nil {
		return nil, err
	}
	for i := range w.Contacts {
		c, err := w.Contacts[i].contact()
		if err != nil {
			return nil, fmt.Errorf("contact %d: %w", i, err)
		}
		r.Contacts = append(r.Contacts, c)
	}
	return r, r.Validate()
}

func (w *dhtContact) contact() (c dht.Contact, err error) {
	if c.Record, err = parseRecord(w.Record); err != nil {
		return c, err
	}
	if c.Record != nil {
		if w.Key != nil {
			return c, errors.New("a record and a key")
		}
		c.Key = c.Record.Key
	} else if len(w.Key) != len(c.Key) {
		return c, fmt.Errorf("key of %d bytes", len(w.Key))
	} else {
		c.Key = dht.Key(w.Key)
	}
	if len(w.Addrs) > maxAdvertised {
		return c, fmt.Errorf("%d addresses, at most %d", len(w.Addrs), maxAdvertised)
	}
	for _, b := range w.Addrs {
		a, err := decodeAddr(b)
		if err != nil {
			return c, err
		}
		c.Addrs = append(c.Addrs, a)
	}
	return c, nil
}

func encodeAddr(a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
}

func decodeAddr(b []byte) (netip.AddrPort, error) {
	ip, ok := netip.AddrFromSlice(b[:max(len(b)-2, 0)])
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes", len(b))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[len(b)-2:])), nil
}

// decodeID is the zero ID where there is none.
func decodeID(b []byte) (id dht.ID, err error) {
	if b != nil && len(b) != len(id) {
		return id, fmt.Errorf("position of %d bytes", len(b))
	}
	copy(id[:], b)
	return id, nil
}

func decodeDHT(b []byte, v any) error {
	if len(b) > maxDHTMessage {
		return fmt.Errorf("%d bytes, at most %d", len(b), maxDHTMessage)
	}
	return sdk.Unmarshal(b, v)
}

func recordBytes(r *dht.Record) []byte {
	if r == nil {
		return nil
	}
	return r.Bytes()
}

func parseRecord(b []byte) (*dht.Record, error) {
	if b == nil {
		return nil, nil
	}
	return dht.ParseRecord(b)
}
