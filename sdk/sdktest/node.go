package sdktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// Node is one agent of a Net, its handler and its source chain.
type Node struct {
	net     *Net
	name    string
	id      sdk.AgentID
	dna     sdk.DNA
	handler sdk.Handler
	desc    sdk.Description
	chain   *chain
	posted  uint64 // its post_commit has confirmed the records below; guarded by Net.posts

	launching sync.Mutex // of notifications, so that they come in order; taken before mu

	mu           sync.Mutex // guards what follows
	stopped      bool
	initializing bool
	running      map[*running]bool
	rules        *agency.Rules // nil: there are none
	load         *agency.Load
	book         *agency.Book
	claims       *agency.Claims
	delegated    *agency.Delegated
	outboxes     map[sdk.AgentID]*outbox // of notifications
	signals      signalled
}

// ID is the node's agent.
func (x *Node) ID() sdk.AgentID { return x.id }

// Name is the name that the node was made with.
func (x *Node) Name() string { return x.name }

// Call calls a function as a client of the node does. Its error is an *sdk.Error.
func (x *Node) Call(ctx context.Context, function string, payload []byte) ([]byte, error) {
	c := &sdk.Call{Kind: sdk.CallFunction, Function: function, ID: newMessageID(), From: x.id, Payload: payload}
	if err := x.net.tooLarge("payload", len(payload)); err != nil {
		return nil, err
	}
	if x.isStopped() {
		return nil, &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "node " + x.name + " is stopped"}
	}
	out, err := x.run(ctx, c)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Call calls a function with typed input and output, under the test's default
// deadline. Use CallContext for another one, and struct{}{} for no input.
func Call[Out any](x *Node, function string, in any) (Out, error) {
	return CallContext[Out](x.net.ctx, x, function, in)
}

// CallContext is Call under a context.
func CallContext[Out any](ctx context.Context, x *Node, function string, in any) (out Out, err error) {
	b, err := sdk.Marshal(in)
	if err != nil {
		return out, err
	}
	if b, err = x.Call(ctx, function, b); err != nil {
		return out, err
	}
	return out, sdk.Unmarshal(b, &out)
}

func newMessageID() (id sdk.MessageID) {
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

func (x *Node) isStopped() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stopped
}

func (n *Net) tooLarge(what string, size int) *sdk.Error {
	if size <= n.options.MaxPayload {
		return nil
	}
	return &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: fmt.Sprintf("%s of %d bytes", what, size),
		Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: uint64(size), Max: uint64(n.options.MaxPayload)}}
}

// ctxError is the typed form of ctx's end.
func ctxError(ctx context.Context, d sdk.Delivered) *sdk.Error {
	retry := d == sdk.DeliveredNo
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &sdk.Error{Code: sdk.Timeout, Side: sdk.SideCaller, Delivered: d, Retry: retry, Text: "the deadline passed"}
	}
	return &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: d, Retry: retry, Text: "the caller gave up"}
}

// log writes to the test's output, which shows it if the test fails.
func (x *Node) log(level slog.Level, text string, args ...any) {
	h := slog.NewTextHandler(x.net.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})
	slog.New(h).With("node", x.name).Log(context.Background(), level, text, args...)
}
