package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func fullPlugin() PluginStatus {
	at := func(n int) time.Time { return testTime.Add(time.Duration(n) * time.Second) }
	return PluginStatus{File: "f", DNA: "d", Integrity: "1", State: "running", PID: 2, SHA256: "a0", Since: at(3), Started: at(4),
		Restarts: 5, LastError: "e", InFlight: 6, Queued: 7, Calls: 8, GivenUp: 9, Generation: 10, Probation: at(11), Good: "b0",
		Trying: "c0", Refused: "r",
		Draining:    []DrainingPlugin{{PID: 12, SHA256: "d0", Calls: 13, Until: at(14)}, {PID: 15, SHA256: "e0", Calls: 16, Until: at(17)}},
		Quarantined: []QuarantinedPlugin{{SHA256: "f0", Reason: "q", Since: at(18)}},
		Layers:      []PluginLayer{{Name: "l", State: "on", Detail: "x"}}}
}

// zeroFields names the fields within v that are zero: those that a round trip
// would not notice the loss of.
func zeroFields(v reflect.Value, name string) (zero []string) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time](), v.Type() == reflect.TypeFor[netip.AddrPort](), v.Kind() != reflect.Struct && v.Kind() != reflect.Slice:
		if v.IsZero() {
			zero = append(zero, name)
		}
	case v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			zero = append(zero, name)
		}
		for i := range v.Len() {
			zero = append(zero, zeroFields(v.Index(i), name)...)
		}
	default:
		for i := range v.NumField() {
			zero = append(zero, zeroFields(v.Field(i), name+"."+v.Type().Field(i).Name)...)
		}
	}
	return zero
}

func TestPluginMethodsCross(t *testing.T) {
	t.Parallel()
	plugins := []PluginStatus{fullPlugin(), {File: "only a name"}}
	events := []PluginEvent{{Seq: 8, Time: testTime, File: "f", DNA: "d", Kind: "swapped", SHA256: "a0", Text: "x"}, {Seq: 10, File: "g"}}
	for _, v := range []any{plugins[0], events[0]} {
		if zero := zeroFields(reflect.ValueOf(v), ""); len(zero) > 0 {
			t.Errorf("the test does not set %v", zero)
		}
	}
	var restarted string
	var asked EventQuery
	c, _ := start(t, &fakeNode{
		plugins: func(context.Context) ([]PluginStatus, error) { return plugins, nil },
		restart: func(_ context.Context, name string) error { restarted = name; return nil },
		events: func(_ context.Context, q EventQuery, tell func(PluginEvent) error) error {
			asked = q
			return errors.Join(tell(events[0]), tell(events[1]))
		},
	})
	got, err := c.Plugins(t.Context())
	same(t, got, err, plugins)
	err = c.RestartPlugin(t.Context(), "ä b")
	same(t, restarted, err, "ä b")
	for _, q := range []EventQuery{{After: 7}, {Follow: true}} {
		var told []PluginEvent
		err := c.PluginEvents(t.Context(), q, func(e PluginEvent) error { told = append(told, e); return nil })
		same(t, told, err, events)
		same(t, asked, nil, q)
	}
}

func TestPluginErrorsCross(t *testing.T) {
	t.Parallel()
	var next error
	c, _ := start(t, &fakeNode{
		plugins: func(context.Context) ([]PluginStatus, error) { return nil, next },
		restart: func(context.Context, string) error { return next },
		events:  func(context.Context, EventQuery, func(PluginEvent) error) error { return next },
	})
	none := func(PluginEvent) error { return nil }
	for _, want := range []error{
		&sdk.Error{Code: sdk.NoHandler, Side: sdk.SideHandler, Delivered: sdk.DeliveredNo, Text: "it drops functions"},
		&InputError{Text: "no handler x"},
	} {
		next = fmt.Errorf("wrapped: %w", want)
		_, err := c.Plugins(t.Context())
		for i, err := range []error{err, c.RestartPlugin(t.Context(), "x"), c.PluginEvents(t.Context(), EventQuery{}, none), c.PluginEvents(t.Context(), EventQuery{Follow: true}, none)} {
			var e *sdk.Error
			var input *InputError
			if errors.As(err, &e) != errors.As(want, new(*sdk.Error)) || !errors.As(err, &e) && !errors.As(err, &input) || e != nil && !reflect.DeepEqual(e, want) {
				t.Errorf("%d: got %#v, want %#v", i, err, want)
			}
		}
	}
	next = context.DeadlineExceeded
	var e *sdk.Error
	if err := c.RestartPlugin(t.Context(), "x"); !errors.As(err, &e) || e.Code != sdk.Timeout {
		t.Errorf("a restart that takes too long: %#v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", maxPluginName+1), "a\x1b[2J", "a\xff"} {
		next = errors.New("the node was asked")
		if err := c.RestartPlugin(t.Context(), name); err == nil || strings.Contains(err.Error(), next.Error()) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestPluginConversionRefuses(t *testing.T) {
	t.Parallel()
	full := fullPlugin()
	for name, change := range map[string]func(*controlpb.Plugin){
		"pid":       func(m *controlpb.Plugin) { m.Pid = -1 },
		"given up":  func(m *controlpb.Plugin) { m.GivenUp = -1 },
		"probation": func(m *controlpb.Plugin) { m.Probation.Nanos = -1 },
		"draining":  func(m *controlpb.Plugin) { m.Draining[1].Calls = -1 },
		"until":     func(m *controlpb.Plugin) { m.Draining[0].Until.Seconds = 1 << 60 },
		"since":     func(m *controlpb.Plugin) { m.Quarantined[0].Since.Nanos = -1 },
	} {
		m := pluginToWire(&full)
		change(m)
		if _, err := pluginFromWire(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	bad := PluginStatus{File: "\xff", Restarts: -1, Calls: 1}
	if m := pluginToWire(&bad); m.GetFile() != "\ufffd" || m.GetRestarts() != 0 {
		t.Errorf("%+v", m)
	}
}

func FuzzPluginFromWire(f *testing.F) {
	full := fullPlugin()
	b, err := protojson.Marshal(pluginToWire(&full))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m controlpb.Plugin
		if protojson.Unmarshal(b, &m) != nil {
			return
		}
		p, err := pluginFromWire(&m)
		if err != nil {
			return
		}
		if again, err := pluginFromWire(pluginToWire(&p)); err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

// following is a node whose stream says hello and then nothing; ended tells of
// the stream's end.
func following(ended chan<- error) *fakeNode {
	return &fakeNode{events: func(ctx context.Context, _ EventQuery, tell func(PluginEvent) error) error {
		err := tell(PluginEvent{Seq: 1, Text: "hello"})
		if err == nil {
			<-ctx.Done()
			err = ctx.Err()
		}
		ended <- err
		return err
	}}
}

// TestFollowingEnds: the node lets go of a stream on which nothing happens as
// soon as its reader is gone.
func TestFollowingEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c, dir := start(t, following(ended))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.PluginEvents(ctx, EventQuery{Follow: true}, func(PluginEvent) error { cancel(); return nil })
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != sdk.Canceled {
		t.Errorf("a caller that gave up: %#v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
	stop := errors.New("enough")
	if err := c.PluginEvents(t.Context(), EventQuery{Follow: true}, func(PluginEvent) error { return stop }); err != stop {
		t.Errorf("tell's error became %v", err)
	}
	<-ended
	deadline, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = c.PluginEvents(deadline, EventQuery{Follow: true}, func(PluginEvent) error { return nil })
	if !errors.As(err, &e) || e.Code != sdk.Timeout {
		t.Errorf("a deadline: %#v", err)
	}
	<-ended
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) { hangUp(t, curl(t, dir), version, ended) })
	}
}

// hangUp reads one event and leaves.
func hangUp(t *testing.T, c *http.Client, version int, ended <-chan error) {
	p := new(http.Protocols)
	p.SetHTTP1(version == 1)
	p.SetUnencryptedHTTP2(version == 2)
	c.Transport.(*http.Transport).Protocols = p
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const body = `{"follow":true}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://parley/parley.control.v1.Control/PluginEvents",
		bytes.NewReader(append([]byte{0, 0, 0, 0, byte(len(body))}, body...)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/connect+json")
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, head); err != nil || res.ProtoMajor != version {
		t.Fatalf("%s, %v", res.Proto, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
}

// TestFollowingEndsWithTheNode: in order for who reads, and without waiting for
// who does not.
func TestFollowingEndsWithTheNode(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow ", slow), func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			n := following(ended)
			if slow {
				n.events = func(_ context.Context, _ EventQuery, tell func(PluginEvent) error) (err error) {
					for e := (PluginEvent{Text: strings.Repeat("x", 1<<16)}); err == nil; {
						err = tell(e)
					}
					return err
				}
			}
			dir := t.TempDir()
			s, err := Listen(dir, n, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			c, err := Dial(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var seen []uint64
			err = c.PluginEvents(t.Context(), EventQuery{Follow: true}, func(e PluginEvent) error {
				seen = append(seen, e.Seq)
				stop()
				if slow {
					if err := <-ran; err != nil {
						t.Errorf("Run: %v", err)
					}
					return io.ErrShortBuffer
				}
				return nil
			})
			if slow && err != io.ErrShortBuffer || !slow && (err != nil || !slices.Equal(seen, []uint64{1})) {
				t.Errorf("events %v, %v", seen, err)
			}
			if !slow {
				if err := <-ran; err != nil {
					t.Errorf("Run: %v", err)
				}
			}
		})
	}
}
