package dht

import "time"

const (
	// leastWait is how long a lookup waits at least for a node that it has to dial. A slow node and a
	// packet sent again on an open connection (200 ms and more) are within it. It lets go whose first packet was lost
	// (RFC 6298: sent again after 1 s), who is heard if the lookup goes on.
	leastWait    = time.Second
	dialSamples  = 4 // dials that were answered, before they count
	waitPatience = 4 // deviations (RFC 6298)
)

// dialTimes is how long the answers of nodes took that had to be dialled, smoothed as RFC 6298
// does it. Whoever answers late on purpose makes lookups wait as long as a call lasts,
// which silence does too; whoever answers fast shortens nothing below leastWait.
type dialTimes struct {
	n         int
	mean, dev time.Duration
}

// took notes an answer. None counts for more than a call may take.
func (d *dialTimes) took(t time.Duration) {
	t = min(max(t, 0), firstTimeout)
	if d.n++; d.n == 1 {
		d.mean, d.dev = t, t/2
		return
	}
	d.dev += ((t - d.mean).Abs() - d.dev) / 4
	d.mean += (t - d.mean) / 8
}

// wait is how long an answer can be expected.
func (d *dialTimes) wait() time.Duration {
	if d.n < dialSamples {
		return firstTimeout
	}
	return min(max(d.mean+waitPatience*d.dev, leastWait), firstTimeout)
}

// wait is how long the answer of a node that has to be dialled can be expected, on a machine as busy as this one.
func (c *core) wait() time.Duration { return c.dials.wait() + c.pace.slack() }

// content tells whether the lookup has what it can end with though some have not answered: as
// many agree as end a usual one. Where that is not so, nobody is let go: that there is nothing, or
// only this, is said when all time is up.
func (l *lookup) content() bool {
	return l.letGo && l.best != nil && l.holders >= quorum
}
