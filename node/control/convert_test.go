package control

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func TestRecordMustMatchItsHash(t *testing.T) {
	t.Parallel()
	good := testRecord(1, []byte("x"))
	for name, change := range map[string]func(*controlpb.Record){
		"hash":      func(m *controlpb.Record) { m.Hash = sdk.Hash{9}.String() },
		"seq":       func(m *controlpb.Record) { m.Seq++ },
		"kind":      func(m *controlpb.Record) { m.Kind = 7 },
		"negative":  func(m *controlpb.Record) { m.Cause = -1 },
		"version":   func(m *controlpb.Record) { m.Version = 300 },
		"type":      func(m *controlpb.Record) { m.EntryType = "" },
		"signature": func(m *controlpb.Record) { m.Signature = m.Signature[1:] },
		"author":    func(m *controlpb.Record) { m.Author = "agent1" },
		"time":      func(m *controlpb.Record) { m.Time.Nanos = -1 },
		"message":   func(m *controlpb.Record) { m.CauseMessage = "00" },
	} {
		m := recordToWire(&good)
		if got, err := recordFromWire(m); err != nil || !reflect.DeepEqual(got, good) {
			t.Fatalf("unchanged: %+v, %v", got, err)
		}
		change(m)
		if _, err := recordFromWire(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRecordFromWire(f *testing.F) {
	for _, r := range []sdk.Record{testRecord(0, []byte{}), testRecord(5, []byte("\x81\xa1a\x01"))} {
		b, err := proto.Marshal(recordToWire(&r))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m controlpb.Record
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r, err := recordFromWire(&m)
		if err != nil {
			return
		}
		again, err := recordFromWire(recordToWire(&r))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzErrorFromMessage(f *testing.F) {
	f.Add([]byte(`{"code":"too_large","side":"node","delivered":"no","limit":{"retryAfter":"1s"},"attempts":[{"cause":"x"}]}`))
	f.Add([]byte(`{"code":"busy","side":"node","delivered":"no","limit":{"retryAfter":"-9s"},"text":"\u001b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m controlpb.Error
		if protojson.Unmarshal(b, &m) != nil {
			return
		}
		e, err := errorFromMessage(&m)
		if err != nil {
			return
		}
		again, err := errorFromMessage(errorMessage(e))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("%+v became %+v, %v", e, again, err)
		}
	})
}

func FuzzStatusFromWire(f *testing.F) {
	s := fullStatus()
	b, err := protojson.Marshal(statusToWire(&s))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m controlpb.StatusResponse
		if protojson.Unmarshal(b, &m) != nil {
			return
		}
		s, err := statusFromWire(&m)
		if err != nil {
			return
		}
		if _, err := statusFromWire(statusToWire(&s)); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	})
}
