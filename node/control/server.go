package control

import (
	"context"
	"errors"
	"log/slog"
)

// Server serves the control API of one node.
type Server struct{}

// Listen binds the socket.
func Listen(dir string, n Node, log *slog.Logger, options ...Option) (*Server, error) {
	return nil, errors.New("control: not built yet")
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error { return nil }

// Option sets a limit of a Server.
type Option func(*Server)
