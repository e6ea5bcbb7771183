package dht

import (
	"math"
	"time"
)

const (
	sessionPrior = 2 * time.Hour  // median length of a node's session before anything was seen
	sessionHalf  = 24 * time.Hour // what was seen so long ago counts half
	minRenew     = 10 * time.Minute
)

// lifetimes estimates how long nodes stay: contacts watched and deaths among them,
// with exponential forgetting. It begins with one death of a node of sessionPrior.
type lifetimes struct {
	watched float64 // seconds, of all contacts together
	deaths  float64
	at      time.Time
}

func (l *lifetimes) init(now time.Time) {
	l.watched, l.deaths, l.at = sessionPrior.Seconds()/math.Ln2, 1, now
}

func (l *lifetimes) watch(now time.Time, contacts int) {
	d := now.Sub(l.at)
	if d <= 0 {
		return
	}
	keep := math.Exp2(-float64(d) / float64(sessionHalf))
	l.watched = l.watched*keep + d.Seconds()*float64(contacts)
	l.deaths *= keep
	l.at = now
}

func (l *lifetimes) died() { l.deaths++ }

// median is the estimated median session, where deaths come at random.
func (l *lifetimes) median() time.Duration {
	m := math.Ln2 * l.watched / max(l.deaths, 0.01)
	return time.Duration(min(m, MaxTTL.Seconds()) * float64(time.Second))
}

// renewAfter is how long a record may lie before it is put again: half its time,
// or less where nodes stay so short that its holders could all be gone by then.
func (c *core) renewAfter() time.Duration {
	return min(c.cfg.TTL/2, max(c.lives.median(), minRenew))
}
