package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
)

// Limits of a Server.
const (
	// DefaultMaxPayload is the default of WithMaxPayload.
	DefaultMaxPayload = 16 << 20
	// DefaultMaxCalls is the default of WithMaxCalls.
	DefaultMaxCalls = 256
	// maxConns bounds the connections; one more waits until one ends.
	maxConns = 256
	// headerTimeout and bodyTimeout bound how long a caller may take to send a
	// request; idleTimeout how long a connection may be kept without one.
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	// stopTimeout is how long Run waits for answers to leave when it stops.
	stopTimeout = 3 * time.Second
)

// Option sets a limit of a Server.
type Option func(*Server)

// WithMaxPayload bounds a call's payload and its reply, in bytes (setting
// max-payload). A request in JSON may have twice as many.
func WithMaxPayload(n int) Option { return func(s *Server) { s.maxPayload = n } }

// WithMaxCalls bounds the requests that run at once (setting control-max-calls).
func WithMaxCalls(n int) Option { return func(s *Server) { s.maxCalls = n } }

// Server serves the control API of one node. Listen makes it, Run runs it, once.
type Server struct {
	// static
	node       Node
	log        *slog.Logger
	socket     *boundSocket
	maxPayload int
	maxCalls   int

	gate *gate
}

// Listen binds the socket in dir, which must exist and be the node's own. It
// fails with ErrRunning if a node answers there already. It serves nothing
// before Run; the caller runs it or closes it.
func Listen(dir string, n Node, log *slog.Logger, options ...Option) (*Server, error) {
	s := &Server{node: n, log: log, maxPayload: DefaultMaxPayload, maxCalls: DefaultMaxCalls}
	for _, o := range options {
		o(s)
	}
	if s.maxPayload < 1 || s.maxCalls < 1 {
		return nil, fmt.Errorf("control: max-payload %d, control-max-calls %d: both must be at least 1", s.maxPayload, s.maxCalls)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.gate = newGate(s.maxCalls)
	var err error
	s.socket, err = bindSocket(dir)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Path is the socket's path.
func (s *Server) Path() string { return s.socket.path }

// Close removes the socket of a Server that will not Run.
func (s *Server) Close() error {
	return errors.Join(s.socket.remove(), s.socket.Listener.Close())
}

// Run serves until ctx ends. It then cancels the calls that run, lets their
// answers leave, removes the socket, and returns when every request has ended.
func (s *Server) Run(ctx context.Context) error {
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelCalls()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	hs := &http.Server{
		Handler:           s.handler(),
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(newGuard(s.socket.Listener, s.log)) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
	}
	// The socket goes first, so that nobody finds a node that is about to end.
	err = errors.Join(err, s.socket.remove())
	cancelCalls()
	stopCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer stop()
	if hs.Shutdown(stopCtx) != nil {
		err = errors.Join(err, hs.Close())
	}
	s.gate.wait()
	return err
}

// handler is the service behind the limits.
func (s *Server) handler() http.Handler {
	maxBody := 2*s.maxPayload + bodyOverhead
	mux := http.NewServeMux()
	mux.Handle(controlpb.NewControlHandler(&service{node: s.node, maxPayload: s.maxPayload},
		connect.WithReadMaxBytes(maxBody),
		// Answers stay on one machine: compressed only where it saves a lot of
		// copying. A compressor costs more than the whole call otherwise.
		connect.WithCompressMinBytes(1<<20),
		connect.WithRecover(s.recovered), strictJSONs()))
	return &limiter{next: mux, gate: s.gate, maxBody: int64(maxBody), maxPayload: s.maxPayload, errors: connect.NewErrorWriter()}
}

func (s *Server) recovered(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
	s.log.Error("control call panicked; this is a bug", "procedure", spec.Procedure, "panic", fmt.Sprint(p), "stack", stack())
	return connect.NewError(connect.CodeInternal, errors.New("the node has a bug here; its log has the details"))
}
