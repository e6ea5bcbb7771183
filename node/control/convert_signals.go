package control

import (
	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// signalToWire is a signal as JSON if that is asked for and it has such a form.
func signalToWire(s *Signal, json bool) *controlpb.WatchResponse {
	m := &controlpb.WatchResponse{Seq: s.Seq, Time: timestamp(s.Time), Dna: text(s.DNA), Lost: s.Lost, Began: s.Began}
	if json && !s.Began {
		m.Json = jsonOrEmpty(s.Payload)
	}
	if m.Json == "" {
		m.Payload = s.Payload
	}
	return m
}

func signalFromWire(m *controlpb.WatchResponse) (Signal, error) {
	var r reader
	s := Signal{Seq: m.GetSeq(), Time: r.time("time", m.GetTime()), DNA: m.GetDna(), Payload: m.GetPayload(), Lost: m.GetLost(), Began: m.GetBegan()}
	return s, r.err()
}

func presenceFromWire(m *controlpb.OnlineResponse) (sdk.Presence, error) {
	var r reader
	p := sdk.Presence{Online: m.GetOnline(), LastHeard: r.time("last_heard", m.GetLastHeard())}
	return p, r.err()
}
