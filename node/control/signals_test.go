package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func testSignals(t *testing.T) []Signal {
	payload, err := sdk.Marshal(map[string]int{"n": 7})
	if err != nil {
		t.Fatal(err)
	}
	return []Signal{{Seq: 4, Time: testTime, DNA: "d", Began: true}, {Seq: 5, Time: testTime.Add(time.Second), DNA: "d", Payload: payload},
		{Seq: 9, Time: testTime.Add(2 * time.Second), DNA: "d", Payload: []byte{0xc1}, Lost: 3}}
}

func TestWatchCrosses(t *testing.T) {
	t.Parallel()
	want := testSignals(t)
	var asked WatchQuery
	c, _ := start(t, &fakeNode{watch: func(_ context.Context, q WatchQuery, tell func(Signal) error) error {
		asked = q
		for _, s := range want {
			if err := tell(s); err != nil {
				return err
			}
		}
		return nil
	}})
	q := WatchQuery{DNA: "d", Buffer: 17}
	var got []Signal
	err := c.Watch(t.Context(), q, func(s Signal) error { got = append(got, s); return nil })
	if err != nil || asked != q || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v\nasked for %+v", err, got, want, asked)
	}
	stop := errors.New("enough")
	if err := c.Watch(t.Context(), q, func(Signal) error { return stop }); err != stop {
		t.Errorf("the error of tell: %v", err)
	}
	for _, dna := range []string{"", "a\x00", strings.Repeat("x", maxDNAText+1)} {
		if err := c.Watch(t.Context(), WatchQuery{DNA: dna}, func(Signal) error { return nil }); err == nil {
			t.Errorf("DNA %q is watched", dna)
		}
	}
}

// The node's errors cross; the caller's own end is told as such.
func TestWatchErrorsCross(t *testing.T) {
	t.Parallel()
	want := &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: "it does not run"}
	left := make(chan struct{})
	c, _ := start(t, &fakeNode{watch: func(ctx context.Context, q WatchQuery, tell func(Signal) error) error {
		if q.DNA == "none" {
			return want
		}
		defer close(left)
		if err := tell(Signal{Began: true, DNA: "d"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	var e *sdk.Error
	if err := c.Watch(t.Context(), WatchQuery{DNA: "none"}, nil); !errors.As(err, &e) || !reflect.DeepEqual(e, want) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Watch(ctx, WatchQuery{DNA: "d"}, func(Signal) error { cancel(); return nil }); !errors.Is(err, sdk.Canceled) {
		t.Errorf("a client that gave up: %v", err)
	}
	<-left
}

// Signals as JSON, as far as they have such a form: by curl, and by browsers.
func TestWatchJSON(t *testing.T) {
	t.Parallel()
	list := testSignals(t)
	node := &fakeNode{watch: func(_ context.Context, _ WatchQuery, tell func(Signal) error) error {
		for _, s := range list {
			if err := tell(s); err != nil {
				return err
			}
		}
		return nil
	}}
	c, _ := start(t, node)
	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "Connect, JSON": {connect.WithProtoJSON()},
		"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}} {
		rpc := controlpb.NewControlClient(&http.Client{Transport: c.http}, "http://parley", options...)
		stream, err := rpc.Watch(t.Context(), &controlpb.WatchRequest{Dna: "d", Json: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []*controlpb.WatchResponse
		for stream.Receive() {
			got = append(got, stream.Msg())
		}
		if err := errors.Join(stream.Err(), stream.Close()); err != nil || len(got) != 3 {
			t.Fatalf("%s: %d signals, %v", name, len(got), err)
		}
		if !got[0].GetBegan() || got[0].GetJson() != "" || got[1].GetJson() != `{"n":7}` || got[1].GetPayload() != nil ||
			got[2].GetJson() != "" || string(got[2].GetPayload()) != "\xc1" || got[2].GetLost() != 3 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOnlineCrosses(t *testing.T) {
	t.Parallel()
	agent := fullStatus().Agent
	var next sdk.Presence
	var fail error
	c, dir := start(t, &fakeNode{online: func(_ context.Context, a sdk.AgentID) (sdk.Presence, error) {
		if a != agent {
			t.Errorf("asked for %s", a)
		}
		return next, fail
	}})
	for _, next = range []sdk.Presence{{}, {Online: true, LastHeard: testTime}, {LastHeard: testTime}} {
		if got, err := c.Online(t.Context(), agent); err != nil || got != next {
			t.Errorf("got %+v, %v; want %+v", got, err, next)
		}
	}
	code, v := post(t, curl(t, dir), "Online", `{"agent":"`+agent.String()+`"}`)
	if b, _ := json.Marshal(v); code != http.StatusOK || !strings.Contains(string(b), "lastHeard") && !strings.Contains(string(b), "last_heard") {
		t.Errorf("by HTTP: %d %s", code, b)
	}
	fail = &sdk.Error{Code: sdk.Canceled, Side: sdk.SideNode}
	if _, err := c.Online(t.Context(), agent); !errors.Is(err, sdk.Canceled) {
		t.Errorf("got %v", err)
	}
	if code, _ := post(t, curl(t, dir), "Online", `{"agent":"agent1x"}`); code != http.StatusBadRequest {
		t.Errorf("what is no agent: %d", code)
	}
}
