package dht

import "time"

// probe puts a contact on the list of those to be asked for their record.
func (c *core) probe(ct Contact, kind probeKind) bool {
	if len(c.probes) >= maxProbes || !c.queue(ct.Key, kind) {
		return false
	}
	c.probes = append(c.probes, ct)
	return true
}

// addStranger is probe for who came by himself. However many come, they
// neither delay the checks of contacts nor those of candidates.
func (c *core) addStranger(k Key) {
	if len(c.strangers) < maxProbes && c.queue(k, probeStranger) {
		c.strangers = append(c.strangers, k)
		c.strange++
	}
}

// queue notes why k is to be asked, unless it is already to be.
func (c *core) queue(k Key, kind probeKind) bool {
	if _, twice := c.queued.get(k.hash(), k); twice || k == c.self {
		return false
	}
	c.queued.set(k.hash(), k, kind)
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
func (c *core) freeProbes() int { return probing - (c.queued.len() - c.strange) }

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
	for c.ownRoom() > 0 && c.queued.len()-len(c.probes)-len(c.strangers) < probing {
		stranger := len(c.probes) == 0
		if stranger && (len(c.strangers) == 0 || !c.mayAskStrangers()) { // not before those were asked whom we found
			break
		}
		p := &struct {
			call
			ping Request
		}{ping: Request{Op: OpPing}}
		if p.req = &p.ping; stranger {
			p.to.Key, p.stranger = pop(&c.strangers), true
		} else {
			p.to = pop(&c.probes)
		}
		p.timeout, _ = c.patience(p.to.Key)
		kind, _ := c.queued.get(p.to.Key.hash(), p.to.Key)
		if p.ended = kind == probeEnded; c.emit(now, &p.call) {
			out = append(out, &p.call)
		} else {
			c.probed(p.to.Key)
		}
	}
	return out
}
