package dht

import (
	"net/netip"
	"testing"
	"time"
)

// A record that says what it said before goes over one path to who is not known yet, and is read back
// over one; what is new, or has failed, or is put in a network of few goes over several.
func TestSteady(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		contacts      int
		edit          func(*core)
		publish, read int // paths
		brief         bool
	}{
		"renewed":                       {60, func(*core) {}, 1, 1, true},
		"a network of few":              {siblingSize - 1, func(*core) {}, pathsPut, pathsGet, false},
		"the neighbours are not known":  {60, func(c *core) { c.sched.filled = false }, pathsPut, pathsGet, false},
		"moved":                         {60, func(c *core) { c.setAddrs(epoch, []netip.AddrPort{testAddr(7000)}) }, pathsPut, 1, false},
		"moved in part":                 {60, func(c *core) { c.setAddrs(epoch, []netip.AddrPort{testAddr(2), testAddr(4)}) }, pathsPut, 1, false},
		"moved in part, signed twice":   {60, func(c *core) { c.setAddrs(epoch, []netip.AddrPort{testAddr(2), testAddr(4)}); c.sign(epoch) }, pathsPut, 1, false},
		"not ready":                     {60, func(c *core) { c.own.ready = false }, pathsPut, 1, false},
		"nobody took it the last time":  {60, func(c *core) { c.publishLater(epoch) }, pathsPut, pathsGet, false},
		"few had it when it was looked": {60, func(c *core) { c.sched.repairs = 1 }, pathsPut, pathsGet, false},
	} {
		n := newMemNet().prepare(t, 1, nil, nil)
		core := n.core
		for i := 0; core.table.n < c.contacts; i++ {
			r := testRecord(t, 100+i, 1, epoch)
			core.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, 1, checkFirst)
		}
		core.setAddrs(epoch, []netip.AddrPort{testAddr(2), testAddr(3)})
		core.sched.filled, core.own.ready = true, true
		first := core.own.rec
		core.published(epoch, &op{kind: opPublish, rec: first, holders: ackShare, lookup: &lookup{}})
		core.renew(epoch.Add(DefaultTTL / 2))
		if first == core.own.rec || !core.renewed() {
			t.Fatalf("%s: not renewed, or it says something else", name)
		}
		c.edit(core)
		put, get := core.start(epoch, opPublish, core.id).lookup, core.start(epoch, opReadback, core.id).lookup
		if len(put.paths) != c.publish || put.brief != c.brief || len(get.paths) != c.read || !get.brief {
			t.Errorf("%s: published over %d paths, brief %t; read back over %d, brief %t", name, len(put.paths), put.brief, len(get.paths), get.brief)
		}
	}
}

// The time between two searches for the own neighbourhood doubles with the node's age.
func TestSelfDoubles(t *testing.T) {
	t.Parallel()
	c := newMemNet().prepare(t, 1, nil, nil).core
	last := time.Duration(0)
	for now := c.sched.started; now.Sub(c.sched.started) < 24*time.Hour; now = c.sched.self {
		c.knowsSelf(now)
		age, wait := now.Sub(c.sched.started), c.sched.self.Sub(now)
		if want := min(max(age, selfFirst), selfMost); wait < want*9/10 || wait > want*11/10 {
			t.Errorf("after %s the next one comes in %s, want %s", age, wait, want)
		}
		last = wait
	}
	if last < selfMost*9/10 {
		t.Errorf("after a day every %s", last)
	}
}
