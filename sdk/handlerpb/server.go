package handlerpb

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parley-p2p/parley/sdk"
)

// Service is the handler's side of the contract. An error of Control
// breaks the stream; an error of Setup is a refusal that the node shows.
type Service interface {
	Describe(ctx context.Context) (sdk.Description, error)
	Setup(ctx context.Context, s sdk.Setup) error
	Drain(ctx context.Context) error
	Control(ctx context.Context) error
}

// Register makes a gRPC server offer the contract, but for the calls.
func Register(r grpc.ServiceRegistrar, s Service) { RegisterHandlerServer(r, &server{s: s}) }

type server struct {
	UnimplementedHandlerServer
	s Service
}

func (v *server) Describe(ctx context.Context, _ *DescribeRequest) (*DescribeResponse, error) {
	d, err := v.s.Describe(ctx)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, clip(err.Error(), maxText))
	}
	w, err := descriptionToWire(d)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, clip(err.Error(), maxText))
	}
	return w, nil
}

func (v *server) Setup(ctx context.Context, w *SetupRequest) (*SetupResponse, error) {
	s, err := setupFromWire(w)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := v.s.Setup(ctx, s); err != nil {
		var e *sdk.Error
		if !errors.As(err, &e) {
			e = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes, Text: err.Error()}
		}
		return &SetupResponse{Error: errorToWire(e)}, nil
	}
	return &SetupResponse{}, nil
}

func (v *server) Drain(ctx context.Context, _ *DrainRequest) (*DrainResponse, error) {
	if err := v.s.Drain(ctx); err != nil {
		return nil, status.Error(codes.Internal, clip(err.Error(), maxText))
	}
	return &DrainResponse{}, nil
}

func (v *server) Control(_ *ControlRequest, s Handler_ControlServer) error {
	// Headers now, so that the node knows that the stream is open.
	if err := s.SendHeader(nil); err != nil {
		return err
	}
	return v.s.Control(s.Context())
}

// HandlerStream is the handler's end of a call socket. Its methods may be used
// concurrently, but for Recv and Send, which have one goroutine each.
type HandlerStream struct {
	in receiver
	w  *writer
}

// NewHandlerStream speaks the calls' part of the contract over conn. maxPayload
// is the limit that the node told. Who closes conn ends Recv and Send.
func NewHandlerStream(conn io.ReadWriter, maxPayload int) *HandlerStream {
	return &HandlerStream{in: newReceiver(conn, maxPayload), w: newWriter(conn)}
}

// Send sends what is queued, until the stream fails.
func (s *HandlerStream) Send() { s.w.loop() }

// Fail ends Send, and everybody who waits to send.
func (s *HandlerStream) Fail(err error) { s.w.fail(err) }

// Recv receives one batch and calls f for each of its frames; what f is given
// is its own. io.EOF says that the node ended the stream; f's errors are passed on.
func (s *HandlerStream) Recv(f func(FromNode) error) error {
	return s.in.recv(func(msg []byte) error {
		fr, err := parseFromNode(msg)
		if err != nil {
			return err
		}
		return f(fr)
	})
}

// Result ends the call id. The reply belongs to the stream from now on. Where
// the queue is full it waits. quiet tells that few calls run: this goroutine
// then sends by itself.
func (s *HandlerStream) Result(id uint64, r *Result, quiet bool) error {
	var a [2 * headSize]byte
	head, tail, err := resultHead(a[:0], id, r)
	if err != nil {
		return err
	}
	_, err = s.w.put(context.Background(), head, tail, quiet)
	return err
}

// Refuse ends the call id with an error and does not wait: ErrUnread says that
// it would have to.
func (s *HandlerStream) Refuse(id uint64, e *sdk.Error) error {
	head, tail, err := resultHead(nil, id, &Result{Err: e})
	if err != nil {
		return err
	}
	return s.w.urgent(append(head, tail...))
}

// Callback asks the node for something on behalf of the call id. The payload
// belongs to the stream until Release or Cancel. Where the queue is
// full it waits for ctx. An error that wraps ErrMalformed means that the
// callback is out of bounds: nothing was sent.
func (s *HandlerStream) Callback(ctx context.Context, id uint64, c *Callback, quiet bool) (Ticket, error) {
	var a [3 * headSize]byte
	head, tail, err := callbackHead(a[:0], id, c)
	if err != nil {
		return Ticket{}, err
	}
	return s.w.put(ctx, head, tail, quiet)
}

// Commit queues an entry of the call id that wants no answer. It is sent with
// whatever is sent next, the call's result at the latest, and arrives before it.
// A large entry would be overtaken: it is not queued, and is a Callback's. Where
// the queue is full it waits for ctx.
func (s *HandlerStream) Commit(ctx context.Context, id uint64, e *sdk.Entry) (queued bool, err error) {
	var a [3 * headSize]byte
	head, tail, err := commitHead(a[:0], id, &Callback{Op: OpCommit, Entry: *e})
	if err != nil || len(head)+len(tail) > SmallFrame {
		return false, err
	}
	if err := s.w.hold(ctx, head, tail); err != nil {
		return false, err
	}
	return true, nil
}

// Notify queues a notification of the call id for whose results nobody waits. It
// arrives before whatever is sent next. A large one would be overtaken: it is not
// queued, and is a Callback's. Where the queue is full it waits for ctx.
func (s *HandlerStream) Notify(ctx context.Context, id uint64, n *sdk.Notice) (queued bool, err error) {
	var a [3 * headSize]byte
	head, tail, err := callbackHead(a[:0], id, &Callback{Op: OpNotify, Notice: *n})
	if err != nil || len(head)+len(tail) > SmallFrame {
		return false, err
	}
	if _, err := s.w.put(ctx, head, tail, false); err != nil {
		return false, err
	}
	return true, nil
}

// Cancel says that nobody waits for a callback's answer any more. It tells
// whether the callback is on its way; if it is not, it is not sent either.
func (s *HandlerStream) Cancel(id, cb uint64, t Ticket) (onItsWay bool, err error) {
	return s.w.release(t, callbackCancel(nil, id, cb))
}

// Release gives the payload of a callback back to its owner.
func (s *HandlerStream) Release(t Ticket) { s.w.giveBack(t) }

// Log sends a line for the node's log.
func (s *HandlerStream) Log(id uint64, l *LogRecord) error {
	head, tail, err := generic(nil, id, handlerLog, logToWire(l))
	if err != nil {
		return err
	}
	_, err = s.w.put(context.Background(), head, tail, false)
	return err
}
