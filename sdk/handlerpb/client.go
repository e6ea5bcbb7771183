package handlerpb

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/parley-p2p/parley/sdk"
)

// Client is the node's side of the contract.
type Client struct{ c HandlerClient }

// NewClient speaks the contract over an open connection.
func NewClient(cc grpc.ClientConnInterface) *Client { return &Client{NewHandlerClient(cc)} }

// Describe asks what the handler is.
func (c *Client) Describe(ctx context.Context) (sdk.Description, error) {
	w, err := c.c.Describe(ctx, &DescribeRequest{})
	if err != nil {
		return sdk.Description{}, fmt.Errorf("describe: %w", err)
	}
	d, err := descriptionFromWire(w)
	if err != nil {
		return sdk.Description{}, fmt.Errorf("describe: %w", err)
	}
	return d, nil
}

// Setup tells the handler where it runs. A *sdk.Error is the handler's own refusal.
func (c *Client) Setup(ctx context.Context, s sdk.Setup) error {
	req, err := setupToWire(&s)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	w, err := c.c.Setup(ctx, req)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	if w.Error == nil {
		return nil
	}
	refusal, err := errorFromWire(w.Error)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	return fmt.Errorf("setup: %w", refusal)
}

// Drain tells the handler that no new call will come.
func (c *Client) Drain(ctx context.Context) error {
	if _, err := c.c.Drain(ctx, &DrainRequest{}); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// Control opens the stream whose break tells the handler that its node is
// gone, and blocks until it ends: by ctx or because the handler ended it.
func (c *Client) Control(ctx context.Context) error {
	s, err := c.c.Control(ctx, &ControlRequest{})
	for err == nil {
		_, err = s.Recv()
	}
	return fmt.Errorf("control stream: %w", err)
}

// Call opens a call stream. It lives until ctx ends or the process does.
func (c *Client) Call(ctx context.Context) (*NodeStream, error) {
	s, err := c.c.Call(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a call stream: %w", err)
	}
	return &NodeStream{s: s}, nil
}

// NodeStream is the node's end of a call stream. One goroutine at a time may
// send and another one receive.
type NodeStream struct {
	s Handler_CallClient
	w HandlerMessage // used again by each Recv, which keeps nothing of it but what it holds
}

// Start sends a call. remaining is the time left; 0 means no deadline.
func (s *NodeStream) Start(call *sdk.Call, remaining time.Duration) error {
	w, err := callToWire(call, remaining)
	if err != nil {
		return err
	}
	return s.s.Send(&HostMessage{Message: &HostMessage_Start{Start: w}})
}

// Answer answers a callback.
func (s *NodeStream) Answer(a *Answer) error {
	w, err := answerToWire(a)
	if err != nil {
		return err
	}
	return s.s.Send(&HostMessage{Message: &HostMessage_Result{Result: w}})
}

// Recv gives the next frame. An error that wraps ErrMalformed is about what
// the handler sent, any other about the stream. The stream is of no use after either.
func (s *NodeStream) Recv() (FromHandler, error) {
	if err := s.s.RecvMsg(&s.w); err != nil {
		return FromHandler{}, err
	}
	return fromHandlerWire(&s.w)
}
