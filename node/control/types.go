package control

import (
	"net/netip"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Status is how a node is at one moment.
type Status struct {
	Agent   sdk.AgentID `json:"agent"`
	Version string      `json:"version"`
	Network string      `json:"network"`
	DataDir string      `json:"data_dir"`
	PID     int         `json:"pid"`
	// Listen is the address bound, Advertised those that others are told.
	// Both are empty for a node that only dials.
	Listen     []netip.AddrPort `json:"listen"`
	Advertised []netip.AddrPort `json:"advertised"`
	Since      time.Time        `json:"since"`
	// Ready tells whether others can find this node; NotReady says what is missing.
	Ready    bool   `json:"ready"`
	NotReady string `json:"not_ready,omitempty"`
	// Clock warns that other nodes' clocks differ from this one's; empty if not.
	Clock string `json:"clock_warning,omitempty"`

	Handlers []HandlerStatus `json:"handlers"`
	Rejected []RejectedFile  `json:"rejected"`
	Damaged  []DamagedChain  `json:"damaged"`
	Sessions []SessionStatus `json:"sessions"`
	DHT      DHTStatus       `json:"dht"`
	Traffic  Traffic         `json:"traffic"`
	Limits   []LimitStatus   `json:"limits"`
}

// HandlerStatus is one DNA's handler.
type HandlerStatus struct {
	DNA       string      `json:"dna"`
	Hash      sdk.DNAHash `json:"hash"`
	Integrity string      `json:"integrity"`
	Functions []string    `json:"functions"`
	Receives  bool        `json:"receives"`
	File      string      `json:"file,omitempty"`   // in the plugin directory; empty in-process
	SHA256    string      `json:"sha256,omitempty"` // of the binary
	State     string      `json:"state"`            // as plugin.State
	PID       int         `json:"pid,omitempty"`
	Since     time.Time   `json:"since"` // of State
	Restarts  int         `json:"restarts"`
	LastError string      `json:"last_error,omitempty"`
	InFlight  int         `json:"in_flight"` // calls that run
	Queued    int         `json:"queued"`    // calls that wait
	Calls     uint64      `json:"calls"`     // since the node's start
}

// PluginStatus is one file of the plugin directory. What it has in common with
// HandlerStatus means the same.
type PluginStatus struct {
	File      string    `json:"file"`
	DNA       string    `json:"dna,omitempty"` // empty if it never told
	Integrity string    `json:"integrity,omitempty"`
	State     string    `json:"state"`
	PID       int       `json:"pid,omitempty"`
	SHA256    string    `json:"sha256,omitempty"`
	Since     time.Time `json:"since"`
	Started   time.Time `json:"started,omitzero"` // of the process
	Restarts  int       `json:"restarts"`
	LastError string    `json:"last_error,omitempty"`
	InFlight  int       `json:"in_flight"`
	Queued    int       `json:"queued"`
	Calls     uint64    `json:"calls"`
	GivenUp   int       `json:"given_up"` // calls whose caller gave up, and that still run

	Generation  int                 `json:"generation"`         // processes that took calls, this one included
	Probation   time.Time           `json:"probation,omitzero"` // not before then is the binary beyond the way back
	Good        string              `json:"good,omitempty"`     // SHA-256 of the binary to go back to
	Trying      string              `json:"trying,omitempty"`   // SHA-256 of the one that is being started
	Refused     string              `json:"refused,omitempty"`  // why what lies in the directory does not run
	Draining    []DrainingPlugin    `json:"draining"`
	Quarantined []QuarantinedPlugin `json:"quarantined"`
	Layers      []PluginLayer       `json:"layers"` // between its process and the machine, the outermost first
}

// PluginLayer is one of the ways in which a handler's process is confined.
type PluginLayer struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// DrainingPlugin is a process whose place another one has taken.
type DrainingPlugin struct {
	PID    int       `json:"pid"`
	SHA256 string    `json:"sha256"`
	Calls  int       `json:"calls"` // that still run
	Until  time.Time `json:"until"` // then they are cut off
}

// QuarantinedPlugin is a binary that is not started again by itself.
type QuarantinedPlugin struct {
	SHA256 string    `json:"sha256"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// EventQuery chooses what PluginEvents tells of.
type EventQuery struct {
	After  uint64 // number of the last event that is known; 0: none
	Follow bool   // go on with those to come
}

// PluginEvent is something that happened to a handler.
type PluginEvent struct {
	Seq    uint64    `json:"seq"` // counts from 1 at the node's start; a gap is what was no longer kept
	Time   time.Time `json:"time"`
	File   string    `json:"file"`
	DNA    string    `json:"dna,omitempty"`
	Kind   string    `json:"kind"` // as plugin.EventKind
	SHA256 string    `json:"sha256,omitempty"`
	Text   string    `json:"text"`
}

// RejectedFile is a file of the plugin directory that runs no DNA, and why.
type RejectedFile struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

// DamagedChain is a source chain that is not what was written. Its DNA does
// not run, the others do.
type DamagedChain struct {
	DNA    string `json:"dna"`
	Path   string `json:"path"`
	Seq    uint64 `json:"seq"` // of the first wrong record
	Reason string `json:"reason"`
}

// SessionStatus is one live session.
type SessionStatus struct {
	Agent     sdk.AgentID    `json:"agent"`
	Address   netip.AddrPort `json:"address"`
	Dialled   bool           `json:"dialled"` // by this node; else by the other
	Since     time.Time      `json:"since"`
	LastHeard time.Time      `json:"last_heard"`
	// InFlight counts requests of both directions.
	InFlight int    `json:"in_flight"`
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
	// ClockSkew is the other clock minus this one; 0 if unknown.
	ClockSkew time.Duration `json:"clock_skew_ns"`
}

// DHTStatus is this node's share of the DHT.
type DHTStatus struct {
	Contacts      int       `json:"contacts"` // in the routing table
	Records       int       `json:"records"`  // kept for other agents
	LastPublished time.Time `json:"last_published"`
	LastError     string    `json:"last_error,omitempty"` // of the last attempt to publish

	// Of the agent's own public entries: those that are published, those that wait
	// for that or were not taken the last time, and those over the bound.
	EntriesPublished int    `json:"entries_published"`
	EntriesWaiting   int    `json:"entries_waiting"`
	EntriesLeftOut   uint64 `json:"entries_left_out"`
	LastEntryError   string `json:"last_entry_error,omitempty"` // of the last publication
	EntrySearches    uint64 `json:"entry_searches"`             // for entries of others, since the node's start
	// Server tells whether the node answers for others in the DHT; WhyClient why it
	// does not, and what to do.
	Server    bool   `json:"server"`
	WhyClient string `json:"why_client,omitempty"`
}

// Traffic counts what reached this node, and what its handlers sent of themselves,
// since its start.
type Traffic struct {
	Messages     uint64 `json:"messages"`      // for a handler's receive
	MessageBytes uint64 `json:"message_bytes"` // of their payloads
	DHTRequests  uint64 `json:"dht_requests"`
	// Notifications counts those that handlers have sent, one for each agent, and
	// NotificationsFailed those of them that no notified took.
	Notifications       uint64 `json:"notifications"`
	NotificationsFailed uint64 `json:"notifications_failed"`
	// Signals counts those that handlers have emitted, SignalsLost those that a client
	// which watched did not read in time.
	Signals     uint64 `json:"signals"`
	SignalsLost uint64 `json:"signals_lost"`
}

// LimitStatus is one limit of the node and how much of it is used.
type LimitStatus struct {
	Name    string `json:"name"`
	Setting string `json:"setting"`
	Used    uint64 `json:"used"`
	Max     uint64 `json:"max"`
}

// PingResult is one round trip.
type PingResult struct {
	Agent   sdk.AgentID    `json:"agent"`
	Time    time.Duration  `json:"time_ns"`
	Address netip.AddrPort `json:"address"`
	Reused  bool           `json:"reused"` // the session was there before
	Source  Source         `json:"source"`
}

// Source says where an agent's address came from.
type Source string

const (
	SourceSelf     Source = "self"     // this node's own agent
	SourceSession  Source = "session"  // a live session
	SourceCache    Source = "cache"    // an address that worked before
	SourceSettings Source = "settings" // the operator's bootstrap list
	SourceDHT      Source = "dht"
)

// LookupResult is where an agent can be reached.
type LookupResult struct {
	Agent     sdk.AgentID      `json:"agent"`
	Addresses []netip.AddrPort `json:"addresses"`
	Source    Source           `json:"source"`
	// Seq and Expires are the address record's; zero without one.
	Seq     uint64    `json:"seq,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	// Route is what the DHT search asked, in the order of the answers.
	Route []RouteStep `json:"route"`
}

// RouteStep is one question of a search.
type RouteStep struct {
	Agent   sdk.AgentID    `json:"agent"`
	Address netip.AddrPort `json:"address"`
	Hop     int            `json:"hop"`    // 1 for what this node knew itself
	Answer  string         `json:"answer"` // such as "record", "8 closer", "timeout"
	Time    time.Duration  `json:"time_ns"`
}

// ChainInfo is one source chain.
type ChainInfo struct {
	DNA       string      `json:"dna"`
	Hash      sdk.DNAHash `json:"hash"`
	Integrity string      `json:"integrity"`
	Records   uint64      `json:"records"`
	Head      sdk.Hash    `json:"head"`
}

// VerifyResult is what a check of a chain found.
type VerifyResult struct {
	DNA    string      `json:"dna"`
	Hash   sdk.DNAHash `json:"hash,omitzero"` // unknown of a chain that can't be opened
	Author sdk.AgentID `json:"author"`
	// Records counts the records that are right, Withheld those of them whose
	// entry an export left out.
	Records  uint64 `json:"records"`
	Withheld uint64 `json:"withheld"`
	// Head is the last record's hash, where Valid.
	Head  sdk.Hash `json:"head,omitzero"`
	Valid bool     `json:"valid"`
	// Wrong is the first wrong record and Reason what is wrong with it, where
	// not Valid.
	Wrong  uint64 `json:"wrong,omitempty"`
	Reason string `json:"reason,omitempty"`
}
