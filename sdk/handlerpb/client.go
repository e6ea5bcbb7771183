package handlerpb

import (
	"context"
	"fmt"
	"io"
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

// NodeStream is the node's end of a call socket. Its methods may be used
// concurrently, but for Recv and Send, which have one goroutine each.
type NodeStream struct {
	in receiver
	w  *writer
}

// NewNodeStream speaks the calls' part of the contract over conn. maxPayload is
// the limit that the handler was told. Who closes conn ends Recv and Send.
func NewNodeStream(conn io.ReadWriter, maxPayload int) *NodeStream {
	return &NodeStream{in: newReceiver(conn, maxPayload), w: newWriter(conn)}
}

// Send sends what is queued, until the stream fails.
func (s *NodeStream) Send() { s.w.loop() }

// Fail ends Send, and everybody who waits to send.
func (s *NodeStream) Fail(err error) { s.w.fail(err) }

// Blocked is for how long the handler has not taken what is being sent to it.
func (s *NodeStream) Blocked() time.Duration { return s.w.blocked() }

// Start queues a call. remaining is the time left; 0 means no deadline. quiet
// tells that few calls run: this goroutine then sends by itself. The payload
// belongs to the stream until Release or Cancel. An error that wraps
// ErrMalformed means that the call is out of bounds.
//
// t is set when the call is queued, before anybody can answer it.
func (s *NodeStream) Start(ctx context.Context, id uint64, call *sdk.Call, remaining time.Duration, quiet bool, t *Ticket) error {
	var a [2 * headSize]byte
	head, tail, err := startHead(a[:0], id, call, remaining)
	if err != nil {
		return err
	}
	return s.w.putFor(ctx, head, tail, quiet, t)
}

// TryStart is Start for a call that fits into a batch. It does not wait: false
// means that there is no room, that the call is out of bounds, or that the
// stream has failed.
func (s *NodeStream) TryStart(id uint64, call *sdk.Call, remaining time.Duration, quiet bool, t *Ticket) bool {
	var a [2 * headSize]byte
	head, tail, err := startHead(a[:0], id, call, remaining)
	return err == nil && s.w.offer(head, tail, quiet, t)
}

// Handed tells whether anything of a call may have reached the handler.
func (s *NodeStream) Handed(t *Ticket) bool { return s.w.handed(t) }

// Cancel gives a call up. It tells whether the call is on its way, and so will
// end with a result. It does not wait; ErrUnread says that it would have to.
func (s *NodeStream) Cancel(id uint64, t Ticket) (onItsWay bool, err error) {
	return s.w.release(t, callCancel(nil, id))
}

// Release gives the payload of a call that has ended back to its owner, should
// the handler have answered before it had all of it.
func (s *NodeStream) Release(t Ticket) { s.w.giveBack(t) }

// Answer queues the answer to a callback of call id. Where the queue is full it
// waits. An error that wraps ErrMalformed means that the answer is out of bounds.
func (s *NodeStream) Answer(ctx context.Context, id uint64, a *Answer, quiet bool) error {
	var b [2 * headSize]byte
	head, tail, err := answerHead(b[:0], id, a)
	if err != nil {
		return err
	}
	_, err = s.w.put(ctx, head, tail, quiet)
	return err
}

// TryAnswer is Answer that does not wait. False means that there is no room in a
// batch, or that Answer would fail.
func (s *NodeStream) TryAnswer(id uint64, a *Answer, quiet bool) bool {
	var b [2 * headSize]byte
	head, tail, err := answerHead(b[:0], id, a)
	var t Ticket
	return err == nil && s.w.offer(head, tail, quiet, &t)
}

// Refuse answers a callback with an error, as Answer does, but does not wait:
// ErrUnread says that it would have to.
func (s *NodeStream) Refuse(id, cb uint64, e *sdk.Error) error {
	head, tail, err := answerHead(nil, id, &Answer{ID: cb, Err: e})
	if err != nil {
		return err
	}
	return s.w.urgent(append(head, tail...))
}

// Recv receives one batch and calls f for each of its frames; what f is given
// is its own. An error that wraps ErrMalformed is about what the handler sent;
// f's errors are passed on; io.EOF says that the handler closed its end. The
// stream is of no use after any of them.
func (s *NodeStream) Recv(f func(FromHandler) error) error {
	return s.in.recv(func(msg []byte) error {
		fr, err := parseFromHandler(msg)
		if err != nil {
			return err
		}
		return f(fr)
	})
}
