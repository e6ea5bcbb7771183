package handlerpb

import (
	"log/slog"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Op is what a callback asks for.
type Op uint8

const (
	OpSend Op = iota + 1
	OpCommit
	OpQuery
	OpGet
	OpNotify
	OpEmit
	OpOnline
	OpGrant
	OpRevoke
	OpClaim
	OpDelegate
	OpList
	// OpDone is of answers that only say that it was done: OpEmit, OpRevoke, OpClaim.
	OpDone
)

// Start is a call with the time that is left; 0 means no deadline.
type Start struct {
	Call      sdk.Call
	Remaining time.Duration
}

// Callback is a running call's request to its node. Which fields hold
// something depends on Op.
type Callback struct {
	ID        uint64 // no other open callback's of its call; 0 for a commit that wants no answer
	Op        Op
	Message   sdk.Message    // OpSend
	Remaining time.Duration  // OpSend, OpGet, OpNotify: time left if less than the call's; 0 means the call's
	Entry     sdk.Entry      // OpCommit
	Query     sdk.Query      // OpQuery
	Record    sdk.Hash       // OpGet
	Notice    sdk.Notice     // OpNotify
	Payload   []byte         // OpEmit
	Agent     sdk.AgentID    // OpOnline
	Grant     sdk.Grant      // OpGrant
	Revoke    sdk.Hash       // OpRevoke
	Claim     sdk.Claim      // OpClaim
	Delegate  sdk.Delegation // OpDelegate
	List      sdk.List       // OpList
}

// Answer is the node's answer to the callback of the same ID. Err excludes
// the other fields.
type Answer struct {
	ID       uint64
	Op       Op
	Reply    []byte       // OpSend
	Hash     sdk.Hash     // OpCommit
	Records  []sdk.Record // OpQuery
	Record   sdk.Record   // OpGet
	Results  []error      // OpNotify: *sdk.Error or nil, each
	Presence sdk.Presence // OpOnline
	Claim    sdk.Claim    // OpGrant
	Proof    sdk.Proof    // OpDelegate
	Page     sdk.Page     // OpList
	Err      *sdk.Error
}

// LogRecord is one line for the node's log.
type LogRecord struct {
	Level slog.Level
	Text  string
	Attrs []LogAttr
}

// LogAttr is one attribute of a LogRecord, in text.
type LogAttr struct{ Key, Value string }

// Result ends a call: with Err, or with Reply where Err is nil.
type Result struct {
	Reply []byte
	Err   *sdk.Error
}
