package sim

import (
	"math"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// meter is what one partition counts. All of it adds up in any order.
type meter struct {
	calls, failed, dials, bytes [dht.Purposes + 1]int64

	beats  int64  // bytes of heartbeats and renewals
	putOut uint64 // live contacts that gave way, in tables of nodes that have gone

	lookups, found, fresh, local int64
	stages                       map[int]*stage
	targets                      map[int32]stage

	hops, first, final, asked, cold, msgs []int64 // of lookups
	publish                               []int64 // from a move to the record's publication
}

// stage counts lookups that began in one part of the run.
type stage struct{ lookups, found, fresh int64 }

const stageLength = 5 * time.Minute

func (m *meter) sent(at int64, s *sim, msg *message, bytes int) {
	if msg.lookup != nil {
		msg.lookup.calls++
	}
	if at >= s.measure {
		m.calls[msg.purpose]++
		m.bytes[msg.purpose] += int64(bytes)
	}
}

func (m *meter) dialled(at int64, s *sim, msg *message) {
	if msg.joined {
		return // the endpoint opens one session for all who wait for it
	}
	if msg.lookup != nil {
		msg.lookup.dials++
	}
	if at >= s.measure {
		m.dials[msg.purpose]++
		m.bytes[msg.purpose] += synBytes
	}
}

// shaken counts the handshake of a dial that found its node.
func (m *meter) shaken(at int64, s *sim, msg *message) {
	if at >= s.measure && !msg.joined {
		m.bytes[msg.purpose] += int64(dialBytes(msg.req))
	}
}

func (m *meter) answered(at int64, s *sim, msg *message) {
	if at >= s.measure {
		m.bytes[msg.purpose] += int64(responseBytes(msg.resp))
	}
}

func (m *meter) failure(at int64, s *sim, msg *message) {
	if at >= s.measure {
		m.failed[msg.purpose]++
	}
}

func (m *meter) published(at int64, s *sim, took int64) {
	if at >= s.measure {
		m.publish = append(m.publish, took)
	}
}

// lookupDone takes a lookup that has ended.
func (m *meter) lookupDone(at int64, s *sim, r *running) {
	if r.start < s.measure {
		return
	}
	res, err := r.l.Result()
	if s.nodes[r.target].hunted {
		if m.targets == nil {
			m.targets = map[int32]stage{}
		}
		st := m.targets[r.target]
		st.lookups++
		if err == nil {
			st.found++
		}
		m.targets[r.target] = st
		return
	}
	if m.stages == nil {
		m.stages = map[int]*stage{}
	}
	st := m.stages[int(r.start/int64(stageLength))]
	if st == nil {
		st = &stage{}
		m.stages[int(r.start/int64(stageLength))] = st
	}
	m.lookups++
	st.lookups++
	m.asked = append(m.asked, int64(len(res.Trace)))
	m.cold = append(m.cold, int64(r.dials))
	m.msgs = append(m.msgs, int64(r.calls))
	m.final = append(m.final, at-r.start)
	if err != nil {
		return
	}
	m.found++
	st.found++
	if res.Record.Seq >= r.seq {
		m.fresh++
		st.fresh++
	}
	if r.l.Local {
		m.local++
		return
	}
	m.first = append(m.first, int64(r.l.First))
	hop := math.MaxInt
	for _, t := range res.Trace {
		if t.Answer == dht.AnswerRecord {
			hop = min(hop, t.Hop)
		}
	}
	if hop < math.MaxInt {
		m.hops = append(m.hops, int64(hop))
	}
}

func (m *meter) add(o *meter) {
	for i := range m.calls {
		m.calls[i] += o.calls[i]
		m.failed[i] += o.failed[i]
		m.dials[i] += o.dials[i]
		m.bytes[i] += o.bytes[i]
	}
	m.beats += o.beats
	m.putOut += o.putOut
	m.lookups, m.found, m.fresh, m.local = m.lookups+o.lookups, m.found+o.found, m.fresh+o.fresh, m.local+o.local
	m.hops, m.first, m.final = append(m.hops, o.hops...), append(m.first, o.first...), append(m.final, o.final...)
	m.msgs = append(m.msgs, o.msgs...)
	m.asked, m.cold, m.publish = append(m.asked, o.asked...), append(m.cold, o.cold...), append(m.publish, o.publish...)
	if m.stages == nil {
		m.stages = map[int]*stage{}
	}
	for t, st := range o.targets {
		if m.targets == nil {
			m.targets = map[int32]stage{}
		}
		sum := m.targets[t]
		sum.lookups, sum.found = sum.lookups+st.lookups, sum.found+st.found
		m.targets[t] = sum
	}
	for i, st := range o.stages {
		if m.stages[i] == nil {
			m.stages[i] = &stage{}
		}
		m.stages[i].lookups += st.lookups
		m.stages[i].found += st.found
		m.stages[i].fresh += st.fresh
	}
}
