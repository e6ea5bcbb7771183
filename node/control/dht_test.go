package control

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

var testAddrs = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7480"), netip.MustParseAddrPort("[2001:db8::1]:1")}

func fullDHTTable() DHTTable {
	return DHTTable{Buckets: []DHTBucket{{Bucket: 1, Contacts: 2, Replacements: 3, Touched: testTime}},
		Contacts: []DHTContact{{Agent: testAgent(1), Addresses: testAddrs, Bucket: 4, Sibling: true, Since: testTime, RTT: 5, Fails: 6, Role: RoleServer, Seq: 7}}}
}

func fullDHTLookup() DHTLookup {
	return DHTLookup{Agent: testAgent(2), Outcome: OutcomeFound, Reason: "r", Addresses: testAddrs, Seq: 1, Issued: testTime, Expires: testTime.Add(1),
		Role: RoleClient, Holders: 3, Final: true, Took: 4, Steps: []DHTStep{{Path: 5, Hop: 6, Agent: testAgent(3), Addresses: testAddrs,
			Answer: "closer", Contacts: 7, Seq: 8, Error: "e", Start: 9, Took: 10}}}
}

func fullDHTStats() DHTStats {
	return DHTStats{Agent: testAgent(1), ID: "ab", Ready: true, Server: true, WhyClient: "w", Contacts: 1, Buckets: 2, Replacements: 3, Records: 4,
		RecordBytes: 5, Floors: 6, Entries: 7, EntryBytes: 8, Lookups: 9, Calls: 10, Failed: 11, Served: 12, Refused: 13, Seq: 14,
		Published: testTime, PublishTook: 15, Holders: 16, PublishError: "p", ReadBackUntil: testTime.Add(1), ClockOff: -17, Nodes: 18, Session: 19,
		UplinkDown: testTime.Add(2), Late: 20, OwnCalls: 21}
}

func TestDHTMethodsCross(t *testing.T) {
	t.Parallel()
	table, lookup, stats := fullDHTTable(), fullDHTLookup(), fullDHTStats()
	for _, v := range []any{table, lookup, stats} {
		if zero := zeroFields(reflect.ValueOf(v), ""); len(zero) > 0 {
			t.Errorf("the test does not set %v", zero)
		}
	}
	var asked DHTSearch
	c, _ := start(t, &fakeNode{
		dhtTable: func(context.Context) (DHTTable, error) { return table, nil },
		dhtLookup: func(_ context.Context, a sdk.AgentID, o DHTSearch) (DHTLookup, error) {
			asked = o
			if a != lookup.Agent {
				t.Errorf("asked for %s", a)
			}
			return lookup, nil
		},
		dhtStats: func(context.Context) (DHTStats, error) { return stats, nil },
	})
	gotTable, err := c.DHTTable(t.Context())
	same(t, gotTable, err, table)
	gotStats, err := c.DHTStats(t.Context())
	same(t, gotStats, err, stats)
	for _, o := range []DHTSearch{{}, {Strict: true}, {Hardened: true}} {
		got, err := c.DHTLookup(t.Context(), lookup.Agent, o)
		same(t, got, err, lookup)
		same(t, asked, nil, o)
	}
}

func TestDHTErrorsCross(t *testing.T) {
	t.Parallel()
	want := &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too many lookups at once"}
	c, _ := start(t, &fakeNode{
		dhtTable:  func(context.Context) (DHTTable, error) { return DHTTable{}, want },
		dhtLookup: func(context.Context, sdk.AgentID, DHTSearch) (DHTLookup, error) { return DHTLookup{}, want },
		dhtStats:  func(context.Context) (DHTStats, error) { return DHTStats{}, want },
	})
	_, err1 := c.DHTTable(t.Context())
	_, err2 := c.DHTLookup(t.Context(), testAgent(1), DHTSearch{})
	_, err3 := c.DHTStats(t.Context())
	for i, err := range []error{err1, err2, err3} {
		var e *sdk.Error
		if !errors.As(err, &e) || !reflect.DeepEqual(e, want) {
			t.Errorf("%d: %#v", i, err)
		}
	}
	bad := &service{node: &fakeNode{t: t}, maxPayload: 1}
	if _, err := bad.DHTLookup(t.Context(), &controlpb.DHTLookupRequest{Agent: "agent1\x1b"}); err == nil {
		t.Error("what is no agent was looked for")
	}
}

func TestDHTConversionRefuses(t *testing.T) {
	t.Parallel()
	table, lookup, stats := fullDHTTable(), fullDHTLookup(), fullDHTStats()
	for name, change := range map[string]func(*controlpb.DHTTableResponse){
		"bucket":  func(m *controlpb.DHTTableResponse) { m.Buckets[0].Bucket = -1 },
		"touched": func(m *controlpb.DHTTableResponse) { m.Buckets[0].Touched.Nanos = -1 },
		"agent":   func(m *controlpb.DHTTableResponse) { m.Contacts[0].Agent = "x" },
		"address": func(m *controlpb.DHTTableResponse) { m.Contacts[0].Addresses[1] = "here" },
		"rtt":     func(m *controlpb.DHTTableResponse) { m.Contacts[0].Rtt.Nanos = -1; m.Contacts[0].Rtt.Seconds = 1 },
	} {
		m := dhtTableToWire(&table)
		change(m)
		if _, err := dhtTableFromWire(m); err == nil {
			t.Errorf("table, %s: accepted", name)
		}
	}
	for name, change := range map[string]func(*controlpb.DHTLookupResponse){
		"holders": func(m *controlpb.DHTLookupResponse) { m.Holders = -1 },
		"path":    func(m *controlpb.DHTLookupResponse) { m.Steps[0].Path = -1 },
		"agent":   func(m *controlpb.DHTLookupResponse) { m.Steps[0].Agent = "x" },
		"expires": func(m *controlpb.DHTLookupResponse) { m.Expires.Seconds = 1 << 60 },
	} {
		m := dhtLookupToWire(&lookup)
		change(m)
		if _, err := dhtLookupFromWire(lookup.Agent, m); err == nil {
			t.Errorf("lookup, %s: accepted", name)
		}
	}
	for name, change := range map[string]func(*controlpb.DHTStatsResponse){
		"record bytes": func(m *controlpb.DHTStatsResponse) { m.RecordBytes = -1 },
		"nodes":        func(m *controlpb.DHTStatsResponse) { m.Nodes = -1 },
		"published":    func(m *controlpb.DHTStatsResponse) { m.Published.Nanos = -1 },
	} {
		m := dhtStatsToWire(&stats)
		change(m)
		if _, err := dhtStatsFromWire(m); err == nil {
			t.Errorf("stats, %s: accepted", name)
		}
	}
	bad := DHTStats{Contacts: -1, PublishError: "\xff", Session: time.Hour}
	if m := dhtStatsToWire(&bad); m.GetContacts() != 0 || m.GetPublishError() != "\ufffd" {
		t.Errorf("%+v", m)
	}
}

func FuzzDHTFromWire(f *testing.F) {
	table, lookup, stats := fullDHTTable(), fullDHTLookup(), fullDHTStats()
	add := func(b []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(protojson.Marshal(dhtTableToWire(&table)))
	add(protojson.Marshal(dhtLookupToWire(&lookup)))
	add(protojson.Marshal(dhtStatsToWire(&stats)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var mt controlpb.DHTTableResponse
		if protojson.Unmarshal(b, &mt) == nil {
			if v, err := dhtTableFromWire(&mt); err == nil {
				again, err := dhtTableFromWire(dhtTableToWire(&v))
				if err != nil || !reflect.DeepEqual(v, again) {
					t.Errorf("%+v became %+v, %v", v, again, err)
				}
			}
		}
		var ml controlpb.DHTLookupResponse
		if protojson.Unmarshal(b, &ml) == nil {
			if v, err := dhtLookupFromWire(lookup.Agent, &ml); err == nil {
				again, err := dhtLookupFromWire(lookup.Agent, dhtLookupToWire(&v))
				if err != nil || !reflect.DeepEqual(v, again) {
					t.Errorf("%+v became %+v, %v", v, again, err)
				}
			}
		}
		var ms controlpb.DHTStatsResponse
		if protojson.Unmarshal(b, &ms) == nil {
			if v, err := dhtStatsFromWire(&ms); err == nil {
				again, err := dhtStatsFromWire(dhtStatsToWire(&v))
				if err != nil || !reflect.DeepEqual(v, again) {
					t.Errorf("%+v became %+v, %v", v, again, err)
				}
			}
		}
	})
}
