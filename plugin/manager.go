package plugin

import (
	"context"
	"errors"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// State is where the handler of one file stands.
type State string

const (
	StateStarting State = "starting" // staged, being started
	StateRunning  State = "running"  // takes calls
	StateBackoff  State = "backoff"  // its process died; it is started again soon
	StateFailed   State = "failed"   // it died too often; it stays down
	StateDraining State = "draining" // finishes its calls
	StateStopped  State = "stopped"
	StateRejected State = "rejected" // it is not, or may not be, a handler: see LastError
	StateSkipped  State = "skipped"  // not started at all: see LastError
)

// HandlerStatus is what Status says of one file.
type HandlerStatus struct {
	File      string
	DNA       string // name of Describe; empty before
	Integrity string
	State     State
	PID       int
	SHA256    string
	Since     time.Time // of State
	Started   time.Time // of the present process
	Restarts  int
	LastError string
	InFlight  int // calls that run
	Queued    int // calls that wait
	Calls     uint64
	Streams   int // open call streams
}

// Manager runs the handlers of one directory.
type Manager struct{}

// New checks the configuration. It starts nothing.
func New(Config) (*Manager, error) { return nil, errors.New("plugin: not built yet") }

// Run starts the handlers and returns when ctx has ended and every process,
// goroutine and file of theirs is gone.
func (m *Manager) Run(ctx context.Context) error { return nil }

// Ready is closed when every binary of the directory is up or rejected.
func (m *Manager) Ready() <-chan struct{} { return nil }

// Status tells of every file of the directory, sorted by name.
func (m *Manager) Status() []HandlerStatus { return nil }

// Handler is the handler of one DNA, whichever process implements it now.
type Handler struct{}

// Description is what the handler said of itself.
func (h *Handler) Description() sdk.Description { return sdk.Description{} }

// File is the name of the binary's file in Config.Dir.
func (h *Handler) File() string { return "" }

// Serve runs one call in the handler's process, as sdk.Handler's Serve does.
func (h *Handler) Serve(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
	return nil, errors.New("plugin: not built yet")
}
