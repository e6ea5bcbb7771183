package node

import "sync/atomic"

// traffic counts what reached this node, so that its operator can see what it
// was asked to do for others.
type traffic struct {
	messages     atomic.Uint64 // requests for a DNA's receive
	messageBytes atomic.Uint64 // of their payloads
	dhtRequests  atomic.Uint64

	entrySearches atomic.Uint64 // of this node's own
}

func newTraffic() *traffic { return &traffic{} }

func (t *traffic) message(payload int) {
	t.messages.Add(1)
	t.messageBytes.Add(uint64(payload))
}
