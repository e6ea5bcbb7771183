package node

import (
	"context"

	"github.com/parley-p2p/parley/dht"
)

// entriesOf is a DHT's part that keeps entries. One that keeps none has no node to
// ask.
func entriesOf(d *dht.DHT) entryDHT {
	if e, ok := any(d).(entryDHT); ok {
		return e
	}
	return noEntries{}
}

type noEntries struct{}

func (noEntries) PutEntry(context.Context, dht.ID, []byte) (int, error) { return 0, dht.ErrNoAnswer }

func (noEntries) GetEntry(context.Context, dht.ID) ([]byte, *dht.Result, error) {
	return nil, nil, dht.ErrNoAnswer
}
