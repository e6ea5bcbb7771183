package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-p2p/parley/sdk"
)

var (
	// ErrClosed is what every method of a closed Chain returns.
	ErrClosed = errors.New("chain: closed")
	// ErrNotFound is returned for a sequence number beyond the head.
	ErrNotFound = errors.New("chain: no such record")
	// ErrLocked is wrapped by Open where another process holds the file.
	ErrLocked = errors.New("another process holds the chain file: stop it, or use another data directory")
)

// DamagedError says that a chain's file is not what was written. Nothing of
// this package writes to a file after it was found damaged.
type DamagedError struct {
	Path string
	// Seq is the number of the first wrong record. All before it are intact.
	Seq uint64
	// Part names what is wrong where it is no record, such as "the type index";
	// the records before Seq are intact.
	Part string
	// Reason says what is wrong with it.
	Reason string
}

func (e *DamagedError) Error() string {
	what := fmt.Sprintf("record %d is the first wrong one", e.Seq)
	if e.Part != "" {
		what = fmt.Sprintf("%s is damaged behind %d intact records", e.Part, e.Seq)
	}
	return fmt.Sprintf("chain file %s: %s: %s; nothing was changed: stop the node and put back a copy of the file, and of its log (%s) "+
		"if there was one, from a backup, or move both away to begin an empty chain", e.Path, what, e.Reason, walSuffix)
}

// DuplicateError is returned by Append for a receive whose outcome is kept
// already: nothing was appended a second time.
type DuplicateError struct {
	From  sdk.AgentID
	ID    sdk.MessageID
	Reply []byte // the first outcome
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("chain: message %s of %s was committed before; its first outcome stands", e.ID, e.From.Short())
}

// The handler has run when a batch comes here, so every refusal says
// "delivered"; nothing of the batch exists, so it may be tried again.

func errMoved(base, head uint64) error {
	return &sdk.Error{Code: sdk.ChainMoved, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true,
		Text: fmt.Sprintf("a strict commit began at record %d and the chain's head is %d now; read it again and retry", base, head)}
}

func errTooLarge(name, setting string, value, limit int) error {
	return &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideNode, Delivered: sdk.DeliveredYes,
		Text:  "nothing of the call was committed; commit less at once or raise the setting",
		Limit: &sdk.Limit{Name: name, Setting: setting, Value: uint64(value), Max: uint64(limit)}}
}

func errInput(format string, args ...any) error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredYes,
		HandlerCode: sdk.HandlerCodeCommit, Text: fmt.Sprintf(format, args...)}
}

func errRepliesFull(l sdk.Limit) error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true, Limit: &l,
		Text: "no room to keep another receive's outcome, and none that is kept is old enough to go; nothing was committed"}
}

func errCommit(path string, cause error) error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true,
		HandlerCode: sdk.HandlerCodeCommit,
		Text: fmt.Sprintf("could not write chain file %s: %v; nothing of the call was committed: "+
			"free space or repair the disk, then retry", path, cause)}
}

func errUnsynced(path string, cause error) error {
	return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredYes,
		Text: fmt.Sprintf("chain file %s was written but the disk did not confirm it: %v; "+
			"check the disk and restart the node, which reads back what is there", path, cause)}
}

func errStopped(path string, cause error) error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true,
		HandlerCode: sdk.HandlerCodeCommit,
		Text: fmt.Sprintf("chain file %s takes no more records since an earlier failure (%v); nothing of the call was committed: "+
			"check the disk and restart the node", path, cause)}
}

// errGaveUp is for a context that ended before the batch was taken.
func errGaveUp(ctx context.Context) error {
	e := &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: sdk.DeliveredYes, Retry: true,
		Text: "the call was canceled before its commits were written; nothing of it was committed"}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Side = sdk.Timeout, sdk.SideNode
		e.Text = "the deadline passed before the call's commits were written; nothing of it was committed"
	}
	return e
}
