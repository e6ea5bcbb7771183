package dht

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound: nobody of those asked holds a valid record of the agent, and enough of
	// them answered (see SilentError), or this node is alone in its network.
	ErrNotFound = errors.New("no address record")
	// ErrNoAnswer: this node knows nobody to ask, nobody that it asked answered, or
	// too few (see SilentError). Whether a record exists is unknown; trying again may help.
	ErrNoAnswer = errors.New("no node of the network answered")
	// ErrBusy: MaxLookups searches are under way. Trying again later helps.
	ErrBusy = errors.New("too many lookups at once")
	// ErrClosed: Run has returned.
	ErrClosed = errors.New("the DHT is closed")
	// ErrRecord is what every error about a malformed, forged, expired or
	// not yet valid Record wraps.
	ErrRecord = errors.New("address record")
	// ErrMessage is what every error about a malformed Request or Response wraps.
	ErrMessage = errors.New("DHT message")
	// ErrEntry is what every error about a public entry that this node can't
	// publish or fetch wraps.
	ErrEntry = errors.New("public entry")
	// ErrDial is what Network.Call's error wraps if no session could be opened: the
	// contact's addresses are then left alone for a while.
	ErrDial = errors.New("no session")
	// ErrUplink is what Network.Call's error wraps if this machine could not send
	// anything: nobody else is to blame.
	ErrUplink = errors.New("this machine's own network is down")
	// ErrSnapshot is what Restore returns for bytes that Snapshot did not make.
	ErrSnapshot = errors.New("DHT snapshot")
)

// ClockError says that other nodes refuse this node's record because of this
// machine's clock: no one can find this agent until it is set right.
type ClockError struct {
	// Off is this machine's clock minus the others': the median of those asked.
	Off   time.Duration
	Peers int // how many refused
}

func (e *ClockError) Error() string {
	way := "ahead of"
	if e.Off < 0 {
		way = "behind"
	}
	return fmt.Sprintf("this machine's clock is %s %s that of %d other nodes, which refuse its address record (allowed: %s); set the clock",
		e.Off.Abs().Round(time.Second), way, e.Peers, maxFuture)
}

func recordErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRecord, fmt.Errorf(format, args...))
}

func messageErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMessage, fmt.Errorf(format, args...))
}

// SilentError says that nobody who answered holds the record, but that fewer answered than
// would make it certain: half of k, or of this node's contacts where it has fewer. It is
// an ErrNoAnswer.
type SilentError struct {
	Should   int // nodes that are there to answer: at most k
	Answered int
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("nobody who answered has it, but of some %d nodes that could know only %d answered", e.Should, e.Answered)
}

// Unwrap returns ErrNoAnswer.
func (e *SilentError) Unwrap() error { return ErrNoAnswer }
