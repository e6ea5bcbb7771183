package plugin

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Config says which handlers to run and how. Dir, StateDir and Attach are
// required; everything else has a default.
type Config struct {
	// Dir holds the handlers' binaries, one file each. It must exist.
	Dir string
	// StateDir is the node's own: staged copies, working directories, sockets.
	StateDir string
	// Attach decides on a handler that started and described itself: under
	// which agent and DNA it runs. An error rejects the binary and is shown in
	// Status. It is called again when a handler's process was restarted only if
	// the description changed.
	Attach func(context.Context, *Handler, sdk.Description) (sdk.Setup, error)
	// Detach is called once for each handler that was attached, when it ends
	// for good. nil does nothing.
	Detach func(*Handler)
	Log    *slog.Logger

	// MaxPayload bounds each payload in bytes (setting max-payload, 16 MiB).
	MaxPayload int
	// MaxCalls bounds the calls of one handler that run at once (setting
	// handler-max-calls, 256); MaxQueue those that wait (handler-max-queue, 1024).
	MaxCalls, MaxQueue int
	// StartTimeout bounds start, handshake, Describe and Setup together
	// (setting handler-start-timeout, 10 s).
	StartTimeout time.Duration
	// StartParallel bounds the handlers that start at once (4).
	StartParallel int
	// DrainTimeout is how long calls may go on at the end (setting
	// handler-drain-timeout, 10 s).
	DrainTimeout time.Duration
	// RestartWait is how long a call waits for a handler that is being
	// restarted, if its deadline allows (setting handler-restart-wait, 5 s).
	RestartWait time.Duration
}
