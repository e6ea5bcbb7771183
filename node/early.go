package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// coldDialLimit bounds what the node waits for a session that it opens of its own
// accord. The dial goes on (transport.Endpoint.Session).
const coldDialLimit = 1500 * time.Millisecond

var _ transport.EarlyReader = (*Node)(nil)

// ReadEarly answers reads of the DHT that ride in a handshake, in as many
// contacts as fit. It notes nothing of the asker: EarlyBegan does.
func (n *Node) ReadEarly(r *transport.EarlyRead, most int) []byte {
	req := earlyRequest(r)
	if req == nil {
		return nil
	}
	resp := n.dht.ReadEarly(dht.Key(r.Peer), req)
	if resp == nil {
		return nil
	}
	return encodeWithin(*resp, most)
}

// encodeWithin encodes as much of resp as goes into most bytes, the nearest
// contacts first; nil where what is no contact does not fit.
func encodeWithin(resp dht.Response, most int) []byte {
	for {
		b, err := encodeDHTResponse(&resp)
		switch {
		case err != nil:
			return nil
		case len(b) <= most:
			return b
		case len(resp.Contacts) == 0:
			return nil
		}
		resp.Contacts = resp.Contacts[:fitting(resp.Contacts, len(b)-most)]
	}
}

// contactHead is what the encoding of a contact has around its record, at least.
const contactHead = 5

// fitting is how many of the nearest contacts to keep so that at least over
// bytes are saved: fewer than there are.
func fitting(contacts []dht.Contact, over int) int {
	keep := len(contacts)
	for keep > 0 && over > 0 {
		keep--
		over -= len(recordBytes(contacts[keep].Record)) + contactHead
	}
	return keep
}

// EarlyBegan notes that an early read was in earnest, as Serve does at once.
func (n *Node) EarlyBegan(r *transport.EarlyRead) {
	if req := earlyRequest(r); req != nil {
		n.traffic.dhtRequests.Add(1)
		n.dht.Visited(dht.Key(r.Peer), req.Seq, r.Answered)
	}
}

// earlyRequest is r where it is a read of the DHT, else nil.
func earlyRequest(r *transport.EarlyRead) *dht.Request {
	if r.Kind != kindDHT {
		return nil
	}
	req, err := decodeDHTRequest(r.Body)
	if err != nil || req.Op > dht.OpGet {
		return nil
	}
	return req
}

// ask asks a node over the live session or a new one. A read may ride in the
// new one's handshake; what is none must not, since a handshake can be replayed.
func (d dhtNetwork) ask(ctx context.Context, to dht.Contact, op dht.Op, o transport.Outgoing) ([]byte, error) {
	e, peer := d.node.endpoint, transport.PeerKey(to.Key)
	if s, ok := e.Live(peer); ok {
		reply, err := s.Request(ctx, o)
		var re *transport.RequestError
		if !errors.As(err, &re) || re.Code != transport.Lost || re.Sent {
			return reply, err
		} // the session was just closed, and the request has not left
	}
	addrs := to.Addresses()
	if len(addrs) == 0 {
		addrs, _ = d.node.known(ctx, sdk.AgentID(to.Key))
	}
	var reply []byte
	var s *transport.Session
	var err error
	if op > dht.OpGet {
		if s, _, err = e.Session(ctx, peer, addrs); err == nil {
			reply, err = s.Request(ctx, o)
		}
	} else {
		reply, s, err = e.Ask(ctx, peer, addrs, o)
	}
	var undialled *transport.DialError
	if errors.As(err, &undialled) || s == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		d.node.dialFailed(sdk.AgentID(to.Key), err)
		if localFault(err) {
			return nil, fmt.Errorf("%w: %w", dht.ErrUplink, err)
		}
		err = fmt.Errorf("%w: %w", dht.ErrDial, err)
	}
	return reply, err
}
