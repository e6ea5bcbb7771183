package dht

// ReadEarly answers a PING, FIND or GET that came before its session, and may
// be a replay: nothing of the asker is noted, and nothing changes. nil: this
// request is to be asked again over the session.
func (d *DHT) ReadEarly(from Key, req *Request) *Response {
	if req.Validate() != nil || req.Op > OpGet {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if from == d.core.self {
		return nil
	}
	return d.core.reply(d.cfg.Now(), from, req)
}

// Visited notes that the session has begun of a node whose request ReadEarly has
// answered: what Serve notes at once. seq is the Request's.
func (d *DHT) Visited(from Key, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.core.stats.Served++
	d.core.notAlone(d.cfg.Now())
	d.core.visited(from, seq)
	if len(d.core.probes)+len(d.core.strangers) > 0 {
		signal(d.wake)
	}
}
