package dht

import (
	"slices"
	"time"
)

// probe puts a contact on the list of those to be asked for their record.
func (c *core) probe(ct Contact, kind probeKind) bool {
	if !c.queue(&c.probes, ct) {
		return false
	}
	c.queued.set(ct.Key.hash(), ct.Key, kind)
	return true
}

// addStranger is probe for who came by himself. However many come, they
// neither delay the checks of contacts nor those of candidates.
func (c *core) addStranger(k Key) {
	if c.queue(&c.strangers, Contact{Key: k}) {
		c.queued.set(k.hash(), k, probeStranger)
		c.strange++
	}
}

func (c *core) queue(list *[]Contact, ct Contact) bool {
	if _, twice := c.queued.get(ct.Key.hash(), ct.Key); twice || ct.Key == c.self || len(*list) >= maxProbes {
		return false
	}
	*list = append(*list, ct)
	return true
}

// probed takes k off: it has been asked.
func (c *core) probed(k Key) {
	switch kind, _ := c.queued.get(k.hash(), k); kind {
	case probeStranger:
		c.strange--
	case probeCandidate:
		c.unask(k)
	}
	c.queued.del(k.hash(), k)
}

// unask notes that a candidate has answered, or will not.
func (c *core) unask(k Key) {
	id := c.table.id(k)
	c.table.bucket(id).asked--
	c.sched.candidates = true // there may be more room, or room for another
}

// freeProbes is how many candidates may be put on the list.
func (c *core) freeProbes() int { return probing - (c.queued.n - c.strange) }

// mayAskStrangers tells whether it is their turn: when those were asked whom this
// node has found by itself. Who has found nobody can't choose.
func (c *core) mayAskStrangers() bool {
	if c.off.JoinFirst || c.table.n == 0 {
		return true
	}
	return c.sched.filled && !c.sched.candidates && c.freeProbes() == probing
}

// nextProbes appends the probes to make now.
func (c *core) nextProbes(now time.Time, out []*call) []*call {
	if !c.sched.joined && !c.off.JoinFirst {
		return out // nobody who came by himself enters the table before our own search is done
	}
	for c.ownRoom() > 0 && c.queued.n-len(c.probes)-len(c.strangers) < probing {
		from, stranger := &c.probes, false
		if len(*from) == 0 && c.mayAskStrangers() {
			from, stranger = &c.strangers, true // not before those were asked whom we found
		}
		if len(*from) == 0 {
			break
		}
		p := &struct {
			call
			ping Request
		}{ping: Request{Op: OpPing}}
		p.to, p.req, p.stranger = (*from)[0], &p.ping, stranger
		p.timeout, _ = c.patience(p.to.Key)
		*from = slices.Delete(*from, 0, 1)
		kind, _ := c.queued.get(p.to.Key.hash(), p.to.Key)
		if p.ended = kind == probeEnded; c.emit(now, &p.call) {
			out = append(out, &p.call)
		} else {
			c.probed(p.to.Key)
		}
	}
	return out
}
