package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// localFaults are the errors of a dial that never left this machine.
var localFaults = []error{syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL}

// localFault tells whether every attempt of a dial failed on this machine: it has
// no way to there, and perhaps none to anywhere.
func localFault(err error) bool {
	attempts := dialAttempts(err)
	return len(attempts) > 0 && !slices.ContainsFunc(attempts, func(a transport.Attempt) bool {
		return !slices.ContainsFunc(localFaults, func(f error) bool { return errors.Is(a.Err, f) })
	})
}

// dialFailed draws the consequences of a dial that failed. Nobody is blamed while
// this node's own uplink is down; then its own addresses are looked at.
func (n *Node) dialFailed(agent sdk.AgentID, err error) {
	if localFault(err) {
		n.dht.AddrsChanged()
		return
	}
	if n.dht.UplinkDown() {
		return
	}
	var addrs []netip.AddrPort
	for _, a := range dialAttempts(err) {
		if !errors.Is(a.Err, context.Canceled) {
			addrs = append(addrs, a.Addr)
		}
	}
	n.addresses.failed(agent, addrs)
	n.backoff.failed(n.now(), agent, addrs)
}

// learned takes over a verified record of another agent, if it is newer.
func (n *Node) learned(r *dht.Record, asked bool) {
	if n.addresses.learn(r, asked) {
		n.backoff.clear(sdk.AgentID(r.Key))
	}
}

// dialAttempts are the attempts of all DialErrors in err's tree.
func dialAttempts(err error) (all []transport.Attempt) {
	for _, d := range dialErrors(err) {
		all = append(all, d.Attempts...)
	}
	return all
}
