package handlerpb

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parley-p2p/parley/sdk"
)

// Service is the handler's side of the contract. An error of Call or Control
// breaks the stream; an error of Setup is a refusal that the node shows.
type Service interface {
	Describe(ctx context.Context) (sdk.Description, error)
	Setup(ctx context.Context, s sdk.Setup) error
	Drain(ctx context.Context) error
	Control(ctx context.Context) error
	Call(ctx context.Context, s *HandlerStream) error
}

// Register makes a gRPC server offer the contract.
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

func (v *server) Call(s Handler_CallServer) error {
	return v.s.Call(s.Context(), &HandlerStream{s: s})
}

// HandlerStream is the handler's end of a call stream. One goroutine at a time
// may send and another one receive.
type HandlerStream struct {
	s Handler_CallServer
	w HostMessage // used again by each Recv, which keeps nothing of it but what it holds
}

// Recv gives the next frame; io.EOF when the node ended the stream.
func (s *HandlerStream) Recv() (FromNode, error) {
	if err := s.s.RecvMsg(&s.w); err != nil {
		return FromNode{}, err
	}
	return fromNodeWire(&s.w)
}

// Result ends the call.
func (s *HandlerStream) Result(r *Result) error {
	return s.s.Send(&HandlerMessage{Message: &HandlerMessage_Result{Result: resultToWire(r)}})
}

// Callback asks the node for something. An error that wraps ErrMalformed means
// that the callback is out of bounds: nothing was sent, the stream is intact.
func (s *HandlerStream) Callback(c *Callback) error {
	w, err := callbackToWire(c)
	if err != nil {
		return err
	}
	return s.s.Send(&HandlerMessage{Message: &HandlerMessage_Callback{Callback: w}})
}

// Cancel says that nobody waits for a callback's answer any more.
func (s *HandlerStream) Cancel(id uint64) error {
	return s.s.Send(&HandlerMessage{Message: &HandlerMessage_Cancel{Cancel: id}})
}

// Log sends a line for the node's log.
func (s *HandlerStream) Log(l *LogRecord) error {
	return s.s.Send(&HandlerMessage{Message: &HandlerMessage_Log{Log: logToWire(l)}})
}
