package plugin

import "time"

// State is where the handler of one file stands.
type State string

const (
	StateStarting State = "starting" // staged and being started
	StateRunning  State = "running"  // takes calls
	StateBackoff  State = "backoff"  // its process died; it is started again soon
	StateFailed   State = "failed"   // it died too often; it stays down
	StateDraining State = "draining" // finishes its calls
	StateStopped  State = "stopped"  // its process is gone
	StateRejected State = "rejected" // it is not, or may not be, a handler: see LastError
	StateSkipped  State = "skipped"  // not started at all: see LastError
)

// HandlerStatus is what Status says of one file.
type HandlerStatus struct {
	File      string
	DNA       string // name of Describe; empty before
	Integrity string
	State     State
	PID       int // 0 where no process runs
	SHA256    string
	Since     time.Time // of State
	Started   time.Time // of the present process
	Restarts  int
	LastError string // why it was rejected, skipped or died the last time
	InFlight  int    // calls that run
	Queued    int    // calls that wait
	Calls     uint64 // calls that ended, ever
	GivenUp   int    // calls whose caller gave up, and that still run in the process
	Sandbox   []Layer
}
