package sdk

import (
	"context"
	"log/slog"
)

// Handler is the contract between a node and the program that implements a
// DNA. A node can't tell a process of its own from an in-process Handler.
type Handler interface {
	// Describe says what the handler is. It is asked once, before anything else.
	Describe(ctx context.Context) (Description, error)
	// Setup tells the handler where it runs, once, before the first call.
	Setup(ctx context.Context, s Setup) error
	// Serve runs one call. It may be called concurrently. host is valid until
	// Serve returns; ctx carries the deadline and ends when the caller gives up.
	// A returned *Error is kept as it is; any other error becomes HandlerFailed.
	Serve(ctx context.Context, host Host, call *Call) ([]byte, error)
}

// Description is a handler's answer to Describe. Its JSON form is what a
// handler's --describe prints: names stay as they are, new ones may come.
type Description struct {
	// Name and Integrity are those of DNA.
	Name      string `json:"name"`
	Integrity string `json:"integrity"`
	// Functions are the names of the entry points, sorted.
	Functions []string `json:"functions"`
	// Receives tells whether there is a receive handler.
	Receives bool `json:"receives"`
	// Init, Validate and PostCommit tell which of the node's own calls it takes.
	Init       bool `json:"init"`
	Validate   bool `json:"validate"`
	PostCommit bool `json:"post_commit"`
	// Notified tells whether it takes notifications.
	Notified bool `json:"notified"`
	// SDK is the version of the author's library, Protocol that of the handler
	// contract that it speaks.
	SDK      string `json:"sdk"`
	Protocol int    `json:"protocol"`
	// Needs are what it can't do without and a node does not give of its own
	// accord: see the function Needs.
	Needs []string `json:"needs,omitempty"`
}

// Setup tells a handler where it runs.
type Setup struct {
	Agent      AgentID
	DNA        DNAHash
	Properties []byte
	// Commits are what the node lets one call commit.
	Commits CommitLimits
}

// CallKind tells why a handler runs.
type CallKind uint8

const (
	CallFunction   CallKind = iota + 1 // one of the agent's own clients calls Function, or From, who has a grant
	CallReceive                        // another agent's message arrived
	CallInit                           // the chain's first call
	CallValidate                       // is another agent's entry valid? The host refuses all but Log
	CallPostCommit                     // Records are durable
	CallNotified                       // another agent's notification arrived; nobody waits for an answer
	// CallOperator is of no call, only of records: the operator caused them, by the
	// control API.
	CallOperator
)

// Commits tells whether a call of this kind may commit, and so be the cause of a
// record.
func (k CallKind) Commits() bool {
	return k >= CallFunction && k <= CallOperator && k != CallValidate
}

// Call is one call of a handler.
type Call struct {
	Kind CallKind
	// Function is the entry point's name; empty for all but a function.
	Function string
	// ID is the message's id where another agent is the cause, else a fresh one.
	ID MessageID
	// From is the proven agent who sent the message or the notification, or who calls
	// the function, and the agent itself for all others.
	From AgentID
	// Behalf proves in whose name From acts; nil: in From's own. The node has checked
	// it for From, for what is asked, and for the time.
	Behalf Proof
	// Records are what CallPostCommit tells of, and the one record, with its
	// content, that CallValidate asks about: no error means that it is valid,
	// HandlerCodeValidate that it is not. They must not be changed.
	Records []Record
	// Payload is opaque to the node. The SDK's is msgpack. It must not be changed.
	// Only a function, a receive and a notification have one.
	Payload []byte
}

// Host is what a node offers to a running call. Its methods may be called
// concurrently, and fail once the call has returned.
type Host interface {
	// Send sends a message to another agent of the same DNA and blocks until its
	// receive, or its function, has answered, an error is certain or the deadline
	// has passed. The payload must not be changed meanwhile.
	Send(ctx context.Context, m Message) ([]byte, error)
	// Notify sends one payload to many agents and returns at once, unless it is to
	// wait. To one agent notifications arrive in the order in which they were sent.
	// results[i] says what became of that to n.To[i]: nil where its handler took it;
	// results are nil where Notify did not wait: then it must not block, as Commit
	// must not. Where n.Behalf does not allow it, for none of n.To, Notify fails, and
	// nothing was sent. The payload and the proof must not be changed.
	Notify(ctx context.Context, n Notice) (results []error, err error)
	// Emit sends a signal to the agent's own clients that watch this DNA. It
	// returns at once; nobody may be watching. The payload must not be changed.
	Emit(ctx context.Context, payload []byte) error
	// Online tells what the node knows of another agent's presence, and asks nobody.
	Online(ctx context.Context, agent AgentID) (Presence, error)
	// Grant opens functions to others. It is durable when Grant returns, whatever
	// becomes of the call, and those that it is assigned to are told.
	Grant(ctx context.Context, g Grant) (Claim, error)
	// Revoke ends a grant, or a delegation of this agent's, of that name. It is
	// durable when Revoke returns, and effective at once here; revoked delegations
	// are published.
	Revoke(ctx context.Context, id Hash) error
	// Claim keeps a grant of another agent's, for calls that need it.
	Claim(ctx context.Context, c Claim) error
	// Delegate signs a delegation. That it did is durable when Delegate returns.
	Delegate(ctx context.Context, d Delegation) (Proof, error)
	// List reads a page of this agent's grants, claims or delegations in this DNA. A
	// page is bounded by MaxListed and MaxListedBytes.
	List(ctx context.Context, l List) (Page, error)
	// Commit stages an entry. All entries that a call staged are appended
	// together when it returns without an error, and only then. The hash is the
	// entry's (EntryHash). What is refused is what a Stage refuses. Commit must
	// not block: a node calls it where it receives the frames of all calls. The
	// content must not be changed until the call has returned.
	Commit(ctx context.Context, e Entry) (Hash, error)
	// Query reads records of the source chain, durable ones only: not those
	// that this call staged.
	Query(ctx context.Context, q Query) ([]Record, error)
	// Get finds the public entry of this DNA whose record has this hash
	// (Record.Hash), whoever its author is: on the source chain, if it is durable,
	// else in the DHT. What it returns was checked: the hash, the DNA, the author's
	// signature, and by this agent's own validate. Its errors are those of Context.Get.
	Get(ctx context.Context, record Hash) (Record, error)
	// Log writes a line to the node's log. It never blocks for long and never fails.
	Log(ctx context.Context, level slog.Level, text string, args ...any)
}

// Visibility says who may see an entry.
type Visibility uint8

const (
	Private Visibility = iota // never leaves the node; the default
	Public                    // published to the DHT once it is durable; at most MaxPublic
)

// Ordering says what an append requires of the chain.
type Ordering uint8

const (
	Relaxed Ordering = iota // records are linked to the head at the moment of the append
	Strict                  // the append fails with ChainMoved if the chain grew since the call began
)

// Entry is what a call commits. If one entry of a call is Strict, the call is.
type Entry struct {
	// Type is the author's name for this kind of entry: 1 to 64 bytes of UTF-8.
	Type       string
	Visibility Visibility
	Ordering   Ordering
	// Content is opaque to the node; the SDK's is msgpack.
	Content []byte
}

// Query selects records of one source chain, in ascending order unless Reverse.
// The zero Query selects the first records.
type Query struct {
	// Type selects entries of one type; empty means all, the genesis record included.
	Type string
	// From and To bound the sequence number: From <= seq < To. To = 0 means no bound.
	From, To uint64
	Reverse  bool
	// Limit is the largest number of records; 0 means 100, at most 1000. Fewer
	// may come where their entries together exceed the payload limit.
	Limit int
}
