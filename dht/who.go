package dht

// who is a Contact in 24 bytes: its key and id stand in its record as well, which a
// simulation has once for all nodes.
type who struct {
	rec  *Record
	bare *bare  // of one without a record
	by   uint32 // Contact.by
}

// bare is a contact without a record of its own, and its id.
type bare struct {
	Contact
	id ID
}

func newWho(c *Contact, id ID) who {
	if c.Record != nil && c.Record.of(c.Key) {
		return who{rec: c.Record, by: c.by}
	}
	return who{bare: &bare{*c, id}, by: c.by}
}

func (w *who) contact() Contact {
	if w.rec == nil {
		c := w.bare.Contact
		c.by = w.by
		return c
	}
	return Contact{Key: w.rec.Key, Record: w.rec, by: w.by}
}

// ref is contact for who asks for a pointer.
func (w *who) ref() *Contact {
	c := w.contact()
	return &c
}

func (w *who) key() Key {
	if w.rec == nil {
		return w.bare.Key
	}
	return w.rec.Key
}

func (w *who) id() ID {
	if w.rec == nil {
		return w.bare.id
	}
	return w.rec.id
}

// top is the first 64 bits of the id.
func (w *who) top() uint64 {
	if w.rec == nil {
		return w.bare.id.top()
	}
	return w.rec.id.top()
}
