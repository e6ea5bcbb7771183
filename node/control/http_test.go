package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// curl is an HTTP/1.1 client as curl --unix-socket is.
func curl(t *testing.T, dir string) *http.Client {
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return dialSocket(dir) }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func post(t *testing.T, c *http.Client, method, body string, header ...string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://parley/parley.control.v1.Control/"+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var v map[string]any
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return res.StatusCode, v
}

func TestJSONOverHTTP(t *testing.T) {
	t.Parallel()
	_, dir := start(t, &fakeNode{
		call: func(_ context.Context, _, function string, p []byte) ([]byte, error) {
			switch function {
			case "echo":
				return p, nil
			case "bytes":
				return []byte{0xc1}, nil // never used in msgpack
			}
			return nil, &sdk.Error{Code: sdk.ChainMoved, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true, Text: "moved"}
		},
		status: func(context.Context) (Status, error) { return fullStatus(), nil },
	})
	c := curl(t, dir)
	for _, x := range []struct {
		method, body, want string
		status             int
	}{
		{"Call", `{"dna":"d","function":"echo","json":"{\"a\":[1,null]}"}`, `{"json":"{\"a\":[1,null]}"}`, 200},
		{"Call", `{"dna":"d","function":"echo","payload":"wQ=="}`, `{"payload":"wQ=="}`, 200},
		{"Call", `{"dna":"d","function":"echo"}`, `{"json":"null"}`, 200},
		{"Call", `{"dna":"d","function":"bytes"}`, `{"payload":"wQ=="}`, 200},
		{"Call", `{"dna":"d","function":"bytes","json":"1"}`, `"handler_code":"parley.output"`, 400},
		{"Call", `{"dna":"d","function":"echo","json":"{"}`, `"invalid_argument"`, 400},
		{"Call", `{"dna":"d","function":"echo","jsn":"{}"}`, `"invalid_argument"`, 400},
		{"Call", `{`, `"invalid_argument"`, 400},
		{"Call", `{"dna":"d","function":"move"}`, `"aborted"`, 409},
		{"Ping", `{"agent":"agent1x"}`, `"invalid_argument"`, 400},
		{"Status", `{}`, fullStatus().Agent.String(), 200},
	} {
		code, v := post(t, c, x.method, x.body)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "handlerCode", "handler_code")
		if code != x.status || !strings.Contains(text, x.want) {
			t.Errorf("%s %s: %d %s, want %d and %s", x.method, x.body, code, text, x.status, x.want)
		}
	}
}

func TestOtherProtocols(t *testing.T) {
	t.Parallel()
	c, _ := start(t, &fakeNode{call: func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, &sdk.Error{Code: sdk.Refused, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredNo, Text: "blocked"}
	}})
	for name, option := range map[string]connect.ClientOption{"gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb()} {
		rpc := controlpb.NewControlClient(&http.Client{Transport: c.http}, "http://parley", option)
		_, err := rpc.Call(t.Context(), &controlpb.CallRequest{Dna: "d", Function: "f"})
		var e *sdk.Error
		if connect.CodeOf(err) != connect.CodePermissionDenied || !errors.As(errorFromWire(t.Context(), callName, err), &e) || e.Text != "blocked" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDeadlineCrosses: the node sees the caller's deadline, and what it says at
// the deadline is what the caller gets.
func TestDeadlineCrosses(t *testing.T) {
	t.Parallel()
	want := &sdk.Error{Code: sdk.Timeout, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Text: "only the node knows that"}
	seen := make(chan time.Time, 1)
	c, _ := start(t, &fakeNode{call: func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		d, _ := ctx.Deadline()
		seen <- d
		return nil, want
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	_, err := c.Call(ctx, "d", "f", nil)
	var e *sdk.Error
	if !errors.As(err, &e) || e.Text != want.Text || e.Delivered != sdk.DeliveredYes {
		t.Errorf("got %v", err)
	}
	deadline, _ := ctx.Deadline()
	if d := <-seen; d.IsZero() || d.After(time.Now().Add(time.Until(deadline)+grace)) {
		t.Errorf("the node's deadline is %s, the caller's %s", d, deadline)
	}
	done, cancelDone := context.WithCancel(t.Context())
	cancelDone()
	if _, err := c.Call(done, "d", "f", nil); !errors.Is(err, sdk.Canceled) || err.(*sdk.Error).Delivered != sdk.DeliveredNo {
		t.Errorf("a call under a context that has ended: %v", err)
	}
}

// The caller waits longer than its deadline, for what only the node knows; and not at
// all once it has given up.
func TestWithGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		late, done := withGrace(ctx)
		defer done()
		<-late.Done()
		if took := time.Since(began); took != time.Minute+grace {
			t.Errorf("it waits for %s", took)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		late, done = withGrace(ctx)
		defer done()
		cancel()
		synctest.Wait()
		if late.Err() != context.Canceled {
			t.Errorf("it gave up, and waits: %v", late.Err())
		}
	})
}

// TestCallerGoesAway: over HTTP/2 by canceling, over HTTP/1.1 by hanging up.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	entered, left := make(chan struct{}), make(chan error, 1)
	c, dir := start(t, &fakeNode{call: func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		entered <- struct{}{}
		<-ctx.Done()
		left <- ctx.Err()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { _, err := c.Call(ctx, "d", "f", nil); answer <- err }()
	<-entered
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("HTTP/2: the call's context ended with %v", err)
	}
	if err := <-answer; !errors.Is(err, sdk.Canceled) {
		t.Errorf("the caller got %v", err)
	}

	conn, err := dialSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"dna":"d","function":"f"}`
	fmt.Fprintf(conn, "POST /parley.control.v1.Control/Call HTTP/1.1\r\nHost: parley\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	<-entered
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("HTTP/1.1: the call's context ended with %v", err)
	}
}

func TestTooManyCalls(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	c, dir := start(t, &fakeNode{call: func(context.Context, string, string, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-release
		return nil, nil
	}}, WithMaxCalls(1))
	answer := make(chan error, 1)
	go func() { _, err := c.Call(t.Context(), "d", "f", nil); answer <- err }()
	<-entered
	_, err := c.Call(t.Context(), "d", "f", nil)
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != sdk.Busy || e.Limit == nil || e.Limit.Max != 1 || e.Limit.RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
	if code, v := post(t, curl(t, dir), "Status", "{}"); code != http.StatusTooManyRequests {
		t.Errorf("as JSON: %d %v", code, v)
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
}

// TestWriterFails: the export ends where its writer does, on both sides.
func TestWriterFails(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c, _ := start(t, &fakeNode{export: func(_ context.Context, _ string, _ ExportOptions, w io.Writer) (err error) {
		for err == nil {
			_, err = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		}
		ended <- err
		return err
	}})
	full := errors.New("disk full")
	if err := c.ExportChain(t.Context(), "d", ExportOptions{}, writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the node's writer did not fail")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	c, _ := start(t, &fakeNode{chains: func(context.Context) ([]ChainInfo, error) { panic("bug") }})
	if _, err := c.Chains(t.Context()); err == nil || strings.Contains(err.Error(), "bug\n") {
		t.Errorf("got %v", err)
	}
}
