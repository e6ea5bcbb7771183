package control

import "github.com/parley-p2p/parley/node/control/controlpb"

func pluginToWire(p *PluginStatus) *controlpb.Plugin {
	m := &controlpb.Plugin{
		File: text(p.File), Dna: text(p.DNA), Integrity: text(p.Integrity), State: text(p.State), Pid: count(p.PID), Sha256: text(p.SHA256),
		Since: timestamp(p.Since), Started: timestamp(p.Started), Restarts: count(p.Restarts), LastError: text(p.LastError),
		InFlight: count(p.InFlight), Queued: count(p.Queued), Calls: p.Calls, GivenUp: count(p.GivenUp), Generation: count(p.Generation),
		Probation: timestamp(p.Probation), Good: text(p.Good), Trying: text(p.Trying), Refused: text(p.Refused),
	}
	for _, d := range p.Draining {
		m.Draining = append(m.Draining, &controlpb.DrainingPlugin{Pid: count(d.PID), Sha256: text(d.SHA256), Calls: count(d.Calls), Until: timestamp(d.Until)})
	}
	for _, q := range p.Quarantined {
		m.Quarantined = append(m.Quarantined, &controlpb.QuarantinedPlugin{Sha256: text(q.SHA256), Reason: text(q.Reason), Since: timestamp(q.Since)})
	}
	for _, l := range p.Layers {
		m.Layers = append(m.Layers, &controlpb.PluginLayer{Name: text(l.Name), State: text(l.State), Detail: text(l.Detail)})
	}
	return m
}

func pluginFromWire(m *controlpb.Plugin) (PluginStatus, error) {
	var r reader
	p := PluginStatus{
		File: m.GetFile(), DNA: m.GetDna(), Integrity: m.GetIntegrity(), State: m.GetState(), PID: r.count("pid", m.GetPid()), SHA256: m.GetSha256(),
		Since: r.time("since", m.GetSince()), Started: r.time("started", m.GetStarted()), Restarts: r.count("restarts", m.GetRestarts()),
		LastError: m.GetLastError(), InFlight: r.count("in_flight", m.GetInFlight()), Queued: r.count("queued", m.GetQueued()), Calls: m.GetCalls(),
		GivenUp: r.count("given_up", m.GetGivenUp()), Generation: r.count("generation", m.GetGeneration()),
		Probation: r.time("probation", m.GetProbation()), Good: m.GetGood(), Trying: m.GetTrying(), Refused: m.GetRefused(),
	}
	for _, d := range m.GetDraining() {
		p.Draining = append(p.Draining, DrainingPlugin{PID: r.count("draining pid", d.GetPid()), SHA256: d.GetSha256(),
			Calls: r.count("draining calls", d.GetCalls()), Until: r.time("until", d.GetUntil())})
	}
	for _, q := range m.GetQuarantined() {
		p.Quarantined = append(p.Quarantined, QuarantinedPlugin{SHA256: q.GetSha256(), Reason: q.GetReason(), Since: r.time("quarantined since", q.GetSince())})
	}
	for _, l := range m.GetLayers() {
		p.Layers = append(p.Layers, PluginLayer{Name: l.GetName(), State: l.GetState(), Detail: l.GetDetail()})
	}
	return p, r.err()
}

func eventToWire(e *PluginEvent) *controlpb.PluginEventsResponse {
	return &controlpb.PluginEventsResponse{Seq: e.Seq, Time: timestamp(e.Time), File: text(e.File), Dna: text(e.DNA),
		Kind: text(e.Kind), Sha256: text(e.SHA256), Text: text(e.Text)}
}

func eventFromWire(m *controlpb.PluginEventsResponse) (PluginEvent, error) {
	var r reader
	e := PluginEvent{Seq: m.GetSeq(), Time: r.time("time", m.GetTime()), File: m.GetFile(), DNA: m.GetDna(),
		Kind: m.GetKind(), SHA256: m.GetSha256(), Text: m.GetText()}
	return e, r.err()
}
