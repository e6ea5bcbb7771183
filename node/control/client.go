package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// Client is a Node behind the socket. Its errors are *sdk.Error and
// *InputError as the node returned them; errors that wrap ErrNotRunning; and
// others where the node has a bug. It may be used concurrently.
type Client struct {
	rpc  controlpb.ControlClient
	http *roundTripper
}

var _ Node = (*Client)(nil)

// maxResponse bounds an answer: a thousand records with their entries, or a
// reply of the largest payload that a node can be set to.
const maxResponse = math.MaxInt32

// Dial returns a client of the node whose data directory is dir. It connects
// when it is first used; Close it after the last use.
func Dial(dir string) (*Client, error) {
	if dir == "" {
		return nil, inputErrorf("data directory: none given")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	// HTTP/1.1: the server's goroutine of a connection serves its calls by itself,
	// where HTTP/2 passes each through three others. Calls at once take a
	// connection each.
	t := &roundTripper{dial: func() (net.Conn, error) {
		c, err := dialSocket(abs)
		if err != nil {
			return nil, &dialError{path: filepath.Join(abs, SocketName), err: err}
		}
		return c, nil
	}}
	rpc := controlpb.NewControlClient(&http.Client{Transport: deadlines{t}}, "http://parley",
		connect.WithReadMaxBytes(maxResponse),
		// Nothing is gained by compressing what stays on one machine.
		connect.WithAcceptCompression("gzip", nil, nil))
	return &Client{rpc: rpc, http: t}, nil
}

// Close closes the connections that no call uses, and the others after their calls.
func (c *Client) Close() error {
	c.http.close()
	return nil
}

// dialError says why nobody could be reached on the socket.
type dialError struct {
	path string
	err  error
}

func (e *dialError) Error() string {
	if errors.Is(e.err, fs.ErrPermission) {
		return fmt.Sprintf("%s belongs to another user: run this as the user whose node it is", e.path)
	}
	return fmt.Sprintf("no node answers on %s (%v): start it with parley run, or name its --data directory", e.path, e.err)
}

func (e *dialError) Unwrap() []error { return []error{ErrNotRunning, e.err} }

// grace is how much longer a client waits than its deadline: the node ends the
// call at the deadline, and only it can say whether a message was delivered.
const grace = time.Second

type deadlineKey struct{}

// withGrace returns a context that ends grace after ctx's deadline, or when ctx
// is canceled; the deadline itself goes to the node.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	late, cancel := context.WithDeadline(context.WithValue(context.WithoutCancel(ctx), deadlineKey{}, deadline), deadline.Add(grace))
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return late, func() { stop(); cancel() }
}

// deadlines writes the caller's own deadline where connect wrote the late one.
type deadlines struct{ *roundTripper }

func (d deadlines) RoundTrip(r *http.Request) (*http.Response, error) {
	if deadline, ok := r.Context().Value(deadlineKey{}).(time.Time); ok {
		r = r.Clone(r.Context())
		r.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10))
	}
	return d.roundTripper.RoundTrip(r)
}

// ask runs one unary request.
func ask[Req, Res any](ctx context.Context, what string, req *Req, do func(context.Context, *Req) (*Res, error)) (*Res, error) {
	if err := ctx.Err(); err != nil {
		return nil, notSent(err)
	}
	late, cancel := withGrace(ctx)
	defer cancel()
	res, err := do(late, req)
	if err != nil {
		return nil, errorFromWire(ctx, what, err)
	}
	return res, nil
}

func notSent(err error) error {
	e := callerError(sdk.Canceled, "the caller gave up before the request was sent")
	if errors.Is(err, context.DeadlineExceeded) {
		e = callerError(sdk.Timeout, "the deadline passed before the request was sent")
	}
	e.Delivered, e.Retry = sdk.DeliveredNo, true
	return e
}

// badAnswer is for an answer that the conversion refused.
func badAnswer(what string, err error) error {
	return fmt.Errorf("%s: the node's answer could not be read; is it of another version than this program? %w", what, err)
}

// Status implements Node.
func (c *Client) Status(ctx context.Context) (Status, error) {
	m, err := ask(ctx, "status", &controlpb.StatusRequest{}, c.rpc.Status)
	if err != nil {
		return Status{}, err
	}
	s, err := statusFromWire(m)
	if err != nil {
		return Status{}, badAnswer("status", err)
	}
	return s, nil
}

// Call implements Node.
func (c *Client) Call(ctx context.Context, dna, function string, payload []byte) ([]byte, error) {
	m, err := ask(ctx, callName, &controlpb.CallRequest{Dna: dna, Function: function, Input: &controlpb.CallRequest_Payload{Payload: payload}}, c.rpc.Call)
	if err != nil {
		return nil, err
	}
	return m.GetPayload(), nil
}

// Ping implements Node.
func (c *Client) Ping(ctx context.Context, agent sdk.AgentID) (PingResult, error) {
	m, err := ask(ctx, "ping", &controlpb.PingRequest{Agent: agent.String()}, c.rpc.Ping)
	if err != nil {
		return PingResult{}, err
	}
	p, err := pingFromWire(agent, m)
	if err != nil {
		return PingResult{}, badAnswer("ping", err)
	}
	return p, nil
}

// Lookup implements Node.
func (c *Client) Lookup(ctx context.Context, agent sdk.AgentID) (LookupResult, error) {
	m, err := ask(ctx, "lookup", &controlpb.LookupRequest{Agent: agent.String()}, c.rpc.Lookup)
	if err != nil {
		return LookupResult{}, err
	}
	l, err := lookupFromWire(agent, m)
	if err != nil {
		return LookupResult{}, badAnswer("lookup", err)
	}
	return l, nil
}

// Chains implements Node.
func (c *Client) Chains(ctx context.Context) ([]ChainInfo, error) {
	m, err := ask(ctx, "list chains", &controlpb.ChainsRequest{}, c.rpc.Chains)
	if err != nil {
		return nil, err
	}
	var out []ChainInfo
	for _, w := range m.GetChains() {
		i, err := chainInfoFromWire(w)
		if err != nil {
			return nil, badAnswer("list chains", err)
		}
		out = append(out, i)
	}
	return out, nil
}

// Chain implements Node.
func (c *Client) Chain(ctx context.Context, dna string, q sdk.Query) ([]sdk.Record, error) {
	m, err := ask(ctx, "read chain", queryToWire(dna, q), c.rpc.Chain)
	if err != nil {
		return nil, err
	}
	var out []sdk.Record
	for _, w := range m.GetRecords() {
		rec, err := recordFromWire(w)
		if err != nil {
			return nil, badAnswer("read chain", err)
		}
		out = append(out, rec)
	}
	return out, nil
}

// GetEntry implements Node. What the node answers has the hash that was asked for.
func (c *Client) GetEntry(ctx context.Context, dna string, record sdk.Hash) (sdk.Record, error) {
	m, err := ask(ctx, "get entry", &controlpb.GetEntryRequest{Dna: dna, Record: record.String()}, c.rpc.GetEntry)
	if err != nil {
		return sdk.Record{}, err
	}
	r, err := recordFromWire(m.GetRecord())
	if err == nil && r.Hash() != record {
		err = fmt.Errorf("hash: the record's is %s, asked for was %s", r.Hash(), record)
	}
	if err != nil {
		return sdk.Record{}, badAnswer("get entry", err)
	}
	return r, nil
}

// VerifyChain implements Node.
func (c *Client) VerifyChain(ctx context.Context, dna string) (VerifyResult, error) {
	m, err := ask(ctx, "verify chain", &controlpb.VerifyChainRequest{Dna: dna}, c.rpc.VerifyChain)
	if err != nil {
		return VerifyResult{}, err
	}
	v, err := verifyFromWire(m)
	if err != nil {
		return VerifyResult{}, badAnswer("verify chain", err)
	}
	return v, nil
}

// ExportChain implements Node.
func (c *Client) ExportChain(ctx context.Context, dna string, o ExportOptions, w io.Writer) error {
	const what = "export chain"
	return receive(ctx, what, &controlpb.ExportChainRequest{Dna: dna, Private: o.Private, Receipts: o.Receipts}, c.rpc.ExportChain, func(m *controlpb.ExportChainResponse) error {
		if _, err := w.Write(m.GetData()); err != nil {
			return fmt.Errorf("%s: write: %w", what, err)
		}
		return nil
	})
}
