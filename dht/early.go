package dht

// earlyMost is about as long as the answer to an early read can be (docs/wire.md,
// section 2).
const earlyMost = 3 << 10

// ReadEarly answers a PING, FIND or GET that came before its session, and may
// be a replay: nothing of the asker is noted, and nothing changes. nil: this
// request is to be asked again over the session, as it is by who has used up what
// he gets of answers.
func (d *DHT) ReadEarly(from Key, req *Request) *Response {
	if req.Validate() != nil || req.Op > OpGet {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if from == d.core.self {
		return nil
	}
	if b := d.core.budgets.find(from); b != nil && !b.answers.has(d.cfg.Now(), earlyMost, answerBurst, answerRate) {
		return nil
	}
	return d.core.reply(d.cfg.Now(), from, req)
}

// Visited notes that the session has begun of a node whose request ReadEarly has
// answered, with as many bytes: what Serve notes at once. seq is the Request's. A
// replay so uses up nobody's budget; who begins no session has sent more than he got.
func (d *DHT) Visited(from Key, seq uint64, bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	d.core.stats.Served++
	d.core.budgets.of(now, from).answers.owe(now, float64(bytes), answerBurst, answerRate)
	d.core.notAlone(now)
	d.core.visited(from, seq)
	if len(d.core.probes)+len(d.core.strangers) > 0 {
		signal(d.wake)
	}
}
