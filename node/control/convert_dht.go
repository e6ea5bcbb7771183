package control

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func dhtTableToWire(t *DHTTable) *controlpb.DHTTableResponse {
	m := &controlpb.DHTTableResponse{}
	for _, b := range t.Buckets {
		m.Buckets = append(m.Buckets, &controlpb.DHTBucket{Bucket: count(b.Bucket), Contacts: count(b.Contacts),
			Replacements: count(b.Replacements), Touched: timestamp(b.Touched)})
	}
	for i := range t.Contacts {
		c := &t.Contacts[i]
		m.Contacts = append(m.Contacts, &controlpb.DHTContact{Agent: agentText(c.Agent), Addresses: addrTexts(c.Addresses), Bucket: count(c.Bucket),
			Sibling: c.Sibling, Since: timestamp(c.Since), Rtt: durationpb.New(c.RTT), Fails: count(c.Fails), Role: text(c.Role), Seq: c.Seq})
	}
	return m
}

func dhtTableFromWire(m *controlpb.DHTTableResponse) (DHTTable, error) {
	var r reader
	var t DHTTable
	for _, b := range m.GetBuckets() {
		t.Buckets = append(t.Buckets, DHTBucket{Bucket: r.count("bucket", b.GetBucket()), Contacts: r.count("contacts", b.GetContacts()),
			Replacements: r.count("replacements", b.GetReplacements()), Touched: r.time("touched", b.GetTouched())})
	}
	for _, c := range m.GetContacts() {
		t.Contacts = append(t.Contacts, DHTContact{Agent: r.agent("agent", c.GetAgent()), Addresses: r.addrs("addresses", c.GetAddresses()),
			Bucket: r.count("bucket", c.GetBucket()), Sibling: c.GetSibling(), Since: r.time("since", c.GetSince()),
			RTT: r.duration("rtt", c.GetRtt()), Fails: r.count("fails", c.GetFails()), Role: c.GetRole(), Seq: c.GetSeq()})
	}
	return t, r.err()
}

func dhtLookupToWire(l *DHTLookup) *controlpb.DHTLookupResponse {
	m := &controlpb.DHTLookupResponse{Outcome: text(l.Outcome), Reason: text(l.Reason), Addresses: addrTexts(l.Addresses), Seq: l.Seq,
		Issued: timestamp(l.Issued), Expires: timestamp(l.Expires), Role: text(l.Role), Holders: count(l.Holders), Final: l.Final, Took: durationpb.New(l.Took)}
	for i := range l.Steps {
		s := &l.Steps[i]
		m.Steps = append(m.Steps, &controlpb.DHTStep{Path: count(s.Path), Hop: count(s.Hop), Agent: agentText(s.Agent), Addresses: addrTexts(s.Addresses),
			Answer: text(s.Answer), Contacts: count(s.Contacts), Seq: s.Seq, Error: text(s.Error), Start: durationpb.New(s.Start), Took: durationpb.New(s.Took)})
	}
	return m
}

func dhtLookupFromWire(agent sdk.AgentID, m *controlpb.DHTLookupResponse) (DHTLookup, error) {
	var r reader
	l := DHTLookup{Agent: agent, Outcome: m.GetOutcome(), Reason: m.GetReason(), Addresses: r.addrs("addresses", m.GetAddresses()), Seq: m.GetSeq(),
		Issued: r.time("issued", m.GetIssued()), Expires: r.time("expires", m.GetExpires()), Role: m.GetRole(),
		Holders: r.count("holders", m.GetHolders()), Final: m.GetFinal(), Took: r.duration("took", m.GetTook())}
	for _, s := range m.GetSteps() {
		l.Steps = append(l.Steps, DHTStep{Path: r.count("path", s.GetPath()), Hop: r.count("hop", s.GetHop()), Agent: r.agent("step agent", s.GetAgent()),
			Addresses: r.addrs("step addresses", s.GetAddresses()), Answer: s.GetAnswer(), Contacts: r.count("contacts", s.GetContacts()), Seq: s.GetSeq(),
			Error: s.GetError(), Start: r.duration("start", s.GetStart()), Took: r.duration("step took", s.GetTook())})
	}
	return l, r.err()
}

func dhtStatsToWire(s *DHTStats) *controlpb.DHTStatsResponse {
	return &controlpb.DHTStatsResponse{
		Agent: agentText(s.Agent), Id: text(s.ID), Ready: s.Ready, Server: s.Server, WhyClient: text(s.WhyClient),
		Contacts: count(s.Contacts), Buckets: count(s.Buckets), Replacements: count(s.Replacements),
		Records: count(s.Records), RecordBytes: int64(s.RecordBytes), Floors: count(s.Floors), Entries: count(s.Entries), EntryBytes: int64(s.EntryBytes),
		Lookups: s.Lookups, Calls: s.Calls, Failed: s.Failed, Served: s.Served, Refused: s.Refused,
		Seq: s.Seq, Published: timestamp(s.Published), PublishTook: durationpb.New(s.PublishTook), Holders: count(s.Holders),
		PublishError: text(s.PublishError), ReadBackUntil: timestamp(s.ReadBackUntil), ClockOff: durationpb.New(s.ClockOff),
		Nodes: int64(s.Nodes), Session: durationpb.New(s.Session), UplinkDown: timestamp(s.UplinkDown),
		Late: durationpb.New(s.Late), OwnCalls: count(s.OwnCalls),
	}
}

func dhtStatsFromWire(m *controlpb.DHTStatsResponse) (DHTStats, error) {
	var r reader
	s := DHTStats{
		Agent: r.agent("agent", m.GetAgent()), ID: m.GetId(), Ready: m.GetReady(), Server: m.GetServer(), WhyClient: m.GetWhyClient(),
		Contacts: r.count("contacts", m.GetContacts()), Buckets: r.count("buckets", m.GetBuckets()), Replacements: r.count("replacements", m.GetReplacements()),
		Records: r.count("records", m.GetRecords()), RecordBytes: r.size("record_bytes", m.GetRecordBytes()), Floors: r.count("floors", m.GetFloors()),
		Entries: r.count("entries", m.GetEntries()), EntryBytes: r.size("entry_bytes", m.GetEntryBytes()),
		Lookups: m.GetLookups(), Calls: m.GetCalls(), Failed: m.GetFailed(), Served: m.GetServed(), Refused: m.GetRefused(),
		Seq: m.GetSeq(), Published: r.time("published", m.GetPublished()), PublishTook: r.duration("publish_took", m.GetPublishTook()),
		Holders: r.count("holders", m.GetHolders()), PublishError: m.GetPublishError(), ReadBackUntil: r.time("read_back_until", m.GetReadBackUntil()),
		ClockOff: r.duration("clock_off", m.GetClockOff()), Nodes: r.size("nodes", m.GetNodes()), Session: r.duration("session", m.GetSession()),
		UplinkDown: r.time("uplink_down", m.GetUplinkDown()), Late: r.duration("late", m.GetLate()), OwnCalls: r.count("own_calls", m.GetOwnCalls()),
	}
	return s, r.err()
}
