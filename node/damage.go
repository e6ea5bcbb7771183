package node

import (
	"errors"

	"github.com/parley-p2p/parley/node/chain"
)

// reason says what is wrong, without what the other fields say.
func (d *DamagedChain) reason() string {
	var damaged *chain.DamagedError
	switch {
	case !errors.As(d.Err, &damaged):
		return d.Err.Error()
	case damaged.Part != "":
		return damaged.Part + ": " + damaged.Reason
	}
	return damaged.Reason
}
