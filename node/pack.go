package node

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parley-p2p/parley/sdk"
)

// A header has at most transport.MaxHeader bytes, in which there is room for a short
// proof. A longer one stands in front of the payload, and the header says how long it
// is (docs/wire.md).

const (
	// headerProof is the largest proof in a header: beside it there is room for all else
	// that one may have.
	headerProof = 400
	// packedSize is that of a packed proof's length, which is too short for a proof.
	packedSize = 4
)

// pack makes the body of a message under a proof that has no room in the header; nil:
// it has, and the body is the payload.
func pack(behalf, payload []byte) []byte {
	if len(behalf) <= headerProof {
		return nil
	}
	return slices.Concat(behalf, payload)
}

// packed is the header of a message whose body pack has made.
func (h messageHeader) packed() messageHeader {
	h.Behalf = binary.BigEndian.AppendUint32(nil, uint32(len(h.Behalf)))
	return h
}

// unpack takes the proof from before the payload, if it is there.
func (h *messageHeader) unpack(body []byte) (payload []byte, e *sdk.Error) {
	if len(h.Behalf) != packedSize {
		return body, nil
	}
	n := binary.BigEndian.Uint32(h.Behalf)
	if n <= packedSize || n > sdk.MaxProof || int(n) > len(body) {
		return nil, errHeader(fmt.Errorf("a proof of %d bytes in front of a body of %d", n, len(body)))
	}
	h.Behalf = body[:n:n]
	return body[n:], nil
}

// errHeader is of a message of which nobody can tell what it asks for.
func errHeader(err error) *sdk.Error {
	return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: "the message's header can't be read: " + err.Error()}
}
