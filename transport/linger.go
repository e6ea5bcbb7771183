package transport

import (
	"errors"
	"net/netip"
)

var errNobodyWaits = errors.New("nobody waits for the dial any more")

// lingering is the share of MaxDials that may go on though nobody waits.
const lingering = 4

func (d *dialing) delivered() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// list returns the addresses to try, of which tried are known. end tells that all
// of these have failed: if there are no others, no more are taken. Nor are they
// tried while nobody waits.
func (e *Endpoint) list(d *dialing, tried int, end bool) []netip.AddrPort {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.over = end && (len(d.addrs) == tried || d.left)
	if d.left {
		return d.addrs[:tried]
	}
	return d.addrs
}

// leaveDial is told that one who waited has gone. Without the last one no more
// addresses are tried, but the attempts under way go on to their end, which
// DialTimeout bounds: on a busy machine the answer is on its way, and whoever asks
// again would have both sides begin anew. Beyond a share of MaxDials they are
// ended. Who comes then starts another dial: this one would tell them that it was
// cancelled.
func (e *Endpoint) leaveDial(peer PeerKey, d *dialing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.waiters--; d.waiters > 0 || e.dials[peer] == d && !d.delivered() && e.lingerLocked(d, true) {
		return
	}
	d.cancel(errNobodyWaits)
	if e.dials[peer] == d {
		delete(e.dials, peer)
	}
}

// lingerLocked counts d among the dials that nobody waits for, or takes it off. It
// tells whether it is counted: there is room for a few.
func (e *Endpoint) lingerLocked(d *dialing, on bool) bool {
	if on && !d.left && e.lingers >= e.cfg.MaxDials/lingering {
		return false
	}
	if d.left != on {
		d.left = on
		if on {
			e.lingers++
		} else {
			e.lingers--
		}
	}
	return on
}
