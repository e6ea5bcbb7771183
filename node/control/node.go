package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/parley-p2p/parley/sdk"
)

// Node is what the control API needs of a node. Its methods may be called
// concurrently and end when ctx ends. Their errors are *sdk.Error or
// *InputError; any other error is reported as an internal one.
type Node interface {
	// Status tells how the node and its parts are. It never waits for another node.
	Status(ctx context.Context) (Status, error)
	// Call runs a function of a DNA, which is named by its name or the text form
	// of its hash. payload is opaque; nil is none.
	Call(ctx context.Context, dna, function string, payload []byte) ([]byte, error)
	// Ping measures one round trip to an agent, over a session that it opens if
	// there is none.
	Ping(ctx context.Context, agent sdk.AgentID) (PingResult, error)
	// Lookup finds an agent's addresses without connecting to them.
	Lookup(ctx context.Context, agent sdk.AgentID) (LookupResult, error)
	// Chains lists the source chains, sorted by DNA name.
	Chains(ctx context.Context) ([]ChainInfo, error)
	// Chain reads records of the source chain of a DNA, named as in Call.
	Chain(ctx context.Context, dna string, q sdk.Query) ([]sdk.Record, error)
	// GetEntry finds the public entry of a DNA, named as in Call, whose record has
	// this hash, as sdk.Host's Get does.
	GetEntry(ctx context.Context, dna string, record sdk.Hash) (sdk.Record, error)
	// VerifyChain checks the whole chain. Damage is a result, not an error.
	VerifyChain(ctx context.Context, dna string) (VerifyResult, error)
	// ExportChain writes the chain to w. After an error what was written is not a
	// whole export, and verifying it says so.
	ExportChain(ctx context.Context, dna string, o ExportOptions, w io.Writer) error
	// Plugins tells of every file of the plugin directory, sorted by name.
	Plugins(ctx context.Context) ([]PluginStatus, error)
	// RestartPlugin starts what lies in the plugin directory anew, for a file or a
	// DNA, whatever is held against it. It returns when the new process has taken
	// over, or was not taken.
	RestartPlugin(ctx context.Context, name string) error
	// PluginEvents tells of what happened to handlers, as far as the node keeps it.
	// With q.Follow it goes on until ctx or the node ends, or tell fails; the
	// node's end is no error. A slow tell misses events, and holds up nobody.
	PluginEvents(ctx context.Context, q EventQuery, tell func(PluginEvent) error) error
	// DHTTable tells of the contacts in the DHT's routing table.
	DHTTable(ctx context.Context) (DHTTable, error)
	// DHTLookup searches the DHT for an agent's address record. That there is none
	// is a result, not an error.
	DHTLookup(ctx context.Context, agent sdk.AgentID, o DHTSearch) (DHTLookup, error)
	// Watch tells of the signals that a DNA's handler emits, named as in Call, until
	// ctx or the node ends, or tell fails; the node's end is no error. The first one
	// that it tells of has Began. A slow tell loses the oldest, is told how many, and
	// holds up nobody.
	Watch(ctx context.Context, q WatchQuery, tell func(Signal) error) error
	// Online tells what the node knows of an agent's presence. It asks nobody.
	Online(ctx context.Context, agent sdk.AgentID) (sdk.Presence, error)
	// DHTStats are the DHT's counters.
	DHTStats(ctx context.Context) (DHTStats, error)
	// Grants lists the grants of a DNA, named as in Call, that were not revoked,
	// the oldest first.
	Grants(ctx context.Context, dna string) ([]Grant, error)
	// AddGrant makes a grant. It is on the source chain when it returns nil.
	AddGrant(ctx context.Context, dna string, g sdk.Grant) (sdk.Claim, error)
	// RevokeGrant ends a grant, at once.
	RevokeGrant(ctx context.Context, dna string, grant sdk.Hash) error
	// Delegations lists those that the agent has signed in a DNA and that have not
	// ended by themselves, the newest first, at most MaxDelegations.
	Delegations(ctx context.Context, dna string) ([]Delegation, error)
	// RevokeDelegation ends one of them: here at once, everywhere within a minute.
	RevokeDelegation(ctx context.Context, dna string, delegation sdk.Hash) error
	// Claims lists the claims that are held in a DNA, without their secrets.
	Claims(ctx context.Context, dna string) ([]Claim, error)
	// AddClaim keeps a claim that was passed on.
	AddClaim(ctx context.Context, dna string, c sdk.Claim) error
	// RemoveClaim lets the claims of a grant go.
	RemoveClaim(ctx context.Context, dna string, grant sdk.Hash) error
	// Policy says whom the node hears, and how much of it.
	Policy(ctx context.Context) (Policy, error)
	// ChangePolicy changes that, at once and for good, all of it or nothing, and
	// returns what holds then.
	ChangePolicy(ctx context.Context, c PolicyChange) (Policy, error)
}

// ExportOptions choose what an export holds.
type ExportOptions struct {
	// Private includes the content of private entries. Such an export is for the
	// agent alone; without it the file can be handed to others.
	Private bool
	// Receipts includes that of matching receipts: hashes and signatures.
	Receipts bool
}

// InputError says that a request can't be carried out by any node: a malformed
// name, a number out of range.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

func inputErrorf(format string, args ...any) error {
	return &InputError{Text: fmt.Sprintf(format, args...)}
}

// ErrNotRunning is wrapped by a Client's errors where no node answers on the
// socket.
var ErrNotRunning = errors.New("no node is running on this data directory")

// ErrRunning is wrapped by Listen's error where another node answers on the
// socket.
var ErrRunning = errors.New("another node is running on this data directory")
