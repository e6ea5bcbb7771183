package dht

// who is a Contact in 16 bytes: its key and id stand in its record as well, which a
// simulation has once for all nodes.
type who struct {
	at   *Record // of a contact without a record one that is not encoded: its key, addresses and id
	by   uint32  // Contact.by
	nets uint32  // groupBits of all its networks; of entries only
}

func newWho(c *Contact, id ID) who {
	if c.Record != nil && c.Record.of(c.Key) {
		return who{at: c.Record, by: c.by}
	}
	return who{at: &Record{Key: c.Key, Addrs: c.Addresses(), id: id}, by: c.by}
}

// record is the contact's, nil if it has none.
func (w *who) record() *Record {
	if len(w.at.raw) == 0 {
		return nil
	}
	return w.at
}

// knows tells whether r is the contact's record, which was verified then.
func (w *who) knows(r *Record) bool {
	known := w.record()
	return known == r || known != nil && string(known.raw) == string(r.raw)
}

func (w *who) contact() Contact {
	if r := w.record(); r != nil {
		return Contact{Key: r.Key, Record: r, by: w.by}
	}
	return Contact{Key: w.at.Key, Addrs: w.at.Addrs, by: w.by}
}

// ref is contact for who asks for a pointer.
func (w *who) ref() *Contact {
	c := w.contact()
	return &c
}

func (w *who) key() Key { return w.at.Key }

func (w *who) id() ID { return w.at.id }

// top is the first 64 bits of the id.
func (w *who) top() uint64 { return w.at.id.top() }
