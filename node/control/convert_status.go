package control

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parley-p2p/parley/node/control/controlpb"
)

func statusToWire(s *Status) *controlpb.StatusResponse {
	m := &controlpb.StatusResponse{
		Agent: agentText(s.Agent), Version: text(s.Version), Network: text(s.Network), DataDir: text(s.DataDir), Pid: count(s.PID),
		Listen: addrTexts(s.Listen), Advertised: addrTexts(s.Advertised), Since: timestamp(s.Since),
		Ready: s.Ready, NotReady: text(s.NotReady), ClockWarning: text(s.Clock),
		Dht: &controlpb.DHT{Contacts: count(s.DHT.Contacts), Records: count(s.DHT.Records),
			LastPublished: timestamp(s.DHT.LastPublished), LastError: text(s.DHT.LastError),
			EntriesPublished: count(s.DHT.EntriesPublished), EntriesWaiting: count(s.DHT.EntriesWaiting), EntriesLeftOut: s.DHT.EntriesLeftOut,
			LastEntryError: text(s.DHT.LastEntryError), EntrySearches: s.DHT.EntrySearches,
			Server: s.DHT.Server, WhyClient: text(s.DHT.WhyClient)},
		Traffic: &controlpb.Traffic{Messages: s.Traffic.Messages, MessageBytes: s.Traffic.MessageBytes, DhtRequests: s.Traffic.DHTRequests,
			Notifications: s.Traffic.Notifications, NotificationsFailed: s.Traffic.NotificationsFailed, Signals: s.Traffic.Signals, SignalsLost: s.Traffic.SignalsLost},
	}
	for i := range s.Handlers {
		m.Handlers = append(m.Handlers, handlerToWire(&s.Handlers[i]))
	}
	for _, f := range s.Rejected {
		m.Rejected = append(m.Rejected, &controlpb.RejectedFile{File: text(f.File), Reason: text(f.Reason)})
	}
	for _, d := range s.Damaged {
		m.Damaged = append(m.Damaged, &controlpb.DamagedChain{Dna: text(d.DNA), Path: text(d.Path), Seq: d.Seq, Reason: text(d.Reason)})
	}
	for i := range s.Sessions {
		m.Sessions = append(m.Sessions, sessionToWire(&s.Sessions[i]))
	}
	for _, l := range s.Limits {
		m.Limits = append(m.Limits, &controlpb.Limit{Name: text(l.Name), Setting: text(l.Setting), Used: l.Used, Max: l.Max})
	}
	return m
}

func statusFromWire(m *controlpb.StatusResponse) (Status, error) {
	var r reader
	s := Status{
		Agent: r.agent("agent", m.GetAgent()), Version: m.GetVersion(), Network: m.GetNetwork(), DataDir: m.GetDataDir(), PID: r.count("pid", m.GetPid()),
		Listen: r.addrs("listen", m.GetListen()), Advertised: r.addrs("advertised", m.GetAdvertised()), Since: r.time("since", m.GetSince()),
		Ready: m.GetReady(), NotReady: m.GetNotReady(), Clock: m.GetClockWarning(),
		DHT: DHTStatus{Contacts: r.count("contacts", m.GetDht().GetContacts()), Records: r.count("records", m.GetDht().GetRecords()),
			LastPublished: r.time("last_published", m.GetDht().GetLastPublished()), LastError: m.GetDht().GetLastError(),
			EntriesPublished: r.count("entries_published", m.GetDht().GetEntriesPublished()), EntriesWaiting: r.count("entries_waiting", m.GetDht().GetEntriesWaiting()),
			EntriesLeftOut: m.GetDht().GetEntriesLeftOut(), LastEntryError: m.GetDht().GetLastEntryError(), EntrySearches: m.GetDht().GetEntrySearches(),
			Server: m.GetDht().GetServer(), WhyClient: m.GetDht().GetWhyClient()},
		Traffic: Traffic{Messages: m.GetTraffic().GetMessages(), MessageBytes: m.GetTraffic().GetMessageBytes(), DHTRequests: m.GetTraffic().GetDhtRequests(),
			Notifications: m.GetTraffic().GetNotifications(), NotificationsFailed: m.GetTraffic().GetNotificationsFailed(), Signals: m.GetTraffic().GetSignals(), SignalsLost: m.GetTraffic().GetSignalsLost()},
	}
	for _, h := range m.GetHandlers() {
		s.Handlers = append(s.Handlers, handlerFromWire(&r, h))
	}
	for _, f := range m.GetRejected() {
		s.Rejected = append(s.Rejected, RejectedFile{File: f.GetFile(), Reason: f.GetReason()})
	}
	for _, d := range m.GetDamaged() {
		s.Damaged = append(s.Damaged, DamagedChain{DNA: d.GetDna(), Path: d.GetPath(), Seq: d.GetSeq(), Reason: d.GetReason()})
	}
	for _, x := range m.GetSessions() {
		s.Sessions = append(s.Sessions, sessionFromWire(&r, x))
	}
	for _, l := range m.GetLimits() {
		s.Limits = append(s.Limits, LimitStatus{Name: l.GetName(), Setting: l.GetSetting(), Used: l.GetUsed(), Max: l.GetMax()})
	}
	return s, r.err()
}

func handlerToWire(h *HandlerStatus) *controlpb.Handler {
	return &controlpb.Handler{
		Dna: text(h.DNA), Hash: dnaText(h.Hash), Integrity: text(h.Integrity), Functions: texts(h.Functions), Receives: h.Receives,
		File: text(h.File), Sha256: text(h.SHA256), State: text(h.State), Pid: count(h.PID), Since: timestamp(h.Since),
		Restarts: count(h.Restarts), LastError: text(h.LastError), InFlight: count(h.InFlight), Queued: count(h.Queued), Calls: h.Calls,
	}
}

func handlerFromWire(r *reader, m *controlpb.Handler) HandlerStatus {
	return HandlerStatus{
		DNA: m.GetDna(), Hash: r.dna("handler hash", m.GetHash()), Integrity: m.GetIntegrity(), Functions: m.GetFunctions(), Receives: m.GetReceives(),
		File: m.GetFile(), SHA256: m.GetSha256(), State: m.GetState(), PID: r.count("handler pid", m.GetPid()), Since: r.time("handler since", m.GetSince()),
		Restarts: r.count("restarts", m.GetRestarts()), LastError: m.GetLastError(), InFlight: r.count("in_flight", m.GetInFlight()),
		Queued: r.count("queued", m.GetQueued()), Calls: m.GetCalls(),
	}
}

func sessionToWire(s *SessionStatus) *controlpb.Session {
	return &controlpb.Session{
		Agent: agentText(s.Agent), Address: addrText(s.Address), Dialled: s.Dialled, Since: timestamp(s.Since), LastHeard: timestamp(s.LastHeard),
		InFlight: count(s.InFlight), BytesIn: s.BytesIn, BytesOut: s.BytesOut, ClockSkew: durationpb.New(s.ClockSkew),
	}
}

func sessionFromWire(r *reader, m *controlpb.Session) SessionStatus {
	return SessionStatus{
		Agent: r.agent("session agent", m.GetAgent()), Address: r.addr("session address", m.GetAddress()), Dialled: m.GetDialled(),
		Since: r.time("session since", m.GetSince()), LastHeard: r.time("last_heard", m.GetLastHeard()),
		InFlight: r.count("in_flight", m.GetInFlight()), BytesIn: m.GetBytesIn(), BytesOut: m.GetBytesOut(), ClockSkew: r.duration("clock_skew", m.GetClockSkew()),
	}
}
