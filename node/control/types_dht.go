package control

import (
	"net/netip"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// DHTTable is the DHT's routing table.
type DHTTable struct {
	Buckets  []DHTBucket  `json:"buckets"`  // those that are not empty
	Contacts []DHTContact `json:"contacts"` // by bucket, the longest known first
}

// DHTBucket is the contacts that share exactly so many leading bits with this node's id.
type DHTBucket struct {
	Bucket       int       `json:"bucket"`
	Contacts     int       `json:"contacts"`
	Replacements int       `json:"replacements"`     // named by others, not yet checked
	Touched      time.Time `json:"touched,omitzero"` // last lookup in its range
}

// DHTContact is a contact of the routing table.
type DHTContact struct {
	Agent     sdk.AgentID      `json:"agent"`
	Addresses []netip.AddrPort `json:"addresses"`
	Bucket    int              `json:"bucket"`
	Sibling   bool             `json:"sibling"` // one of the nearest to this node
	Since     time.Time        `json:"since"`   // in the table
	RTT       time.Duration    `json:"rtt_ns"`
	Fails     int              `json:"fails"`          // calls in a row that it did not answer
	Role      string           `json:"role,omitempty"` // RoleServer or RoleClient; empty: its record is not known
	Seq       uint64           `json:"seq,omitempty"`  // of its record
}

// Roles in the DHT.
const (
	RoleServer = "server"
	RoleClient = "client"
)

// DHTSearch says how thorough a DHTLookup is.
type DHTSearch struct {
	Strict   bool // ask all who could have the record
	Hardened bool // over 8 disjoint paths in the place of 3
}

// Outcomes of a DHTLookup.
const (
	OutcomeFound     = "found"
	OutcomeWithdrawn = "withdrawn" // the agent has gone offline and said so
	OutcomeNotFound  = "not_found" // nobody has a record
	OutcomeNoAnswer  = "no_answer" // nobody answered: unknown
	OutcomeFailed    = "failed"    // a limit, or the time was up
)

// DHTLookup is what a search found, and how. Addresses to Role are zero if there
// is no record.
type DHTLookup struct {
	Agent     sdk.AgentID      `json:"agent"`
	Outcome   string           `json:"outcome"`
	Reason    string           `json:"reason,omitempty"` // of the others than found
	Addresses []netip.AddrPort `json:"addresses"`
	Seq       uint64           `json:"seq,omitempty"`
	Issued    time.Time        `json:"issued,omitzero"`
	Expires   time.Time        `json:"expires,omitzero"`
	Role      string           `json:"role,omitempty"`
	Holders   int              `json:"holders"` // nodes that have exactly this record, this one included
	Final     bool             `json:"final"`   // no node is left that could change the outcome, or enough agree
	Took      time.Duration    `json:"took_ns"`
	Steps     []DHTStep        `json:"steps"` // in the order of the answers
}

// DHTStep is one question of a search.
type DHTStep struct {
	Path      int              `json:"path"` // of the disjoint paths, from 0
	Hop       int              `json:"hop"`  // 1 for what this node knew itself
	Agent     sdk.AgentID      `json:"agent"`
	Addresses []netip.AddrPort `json:"addresses"`
	Answer    string           `json:"answer"`        // record, closer, none, failed
	Contacts  int              `json:"contacts"`      // new ones in the answer
	Seq       uint64           `json:"seq,omitempty"` // of the record that it gave
	Error     string           `json:"error,omitempty"`
	Start     time.Duration    `json:"start_ns"` // since the search began
	Took      time.Duration    `json:"took_ns"`
}

// DHTStats are the DHT's counters, since the node's start where nothing else is said.
type DHTStats struct {
	Agent         sdk.AgentID   `json:"agent"`
	ID            string        `json:"id"` // this node's position, hexadecimal
	Ready         bool          `json:"ready"`
	Server        bool          `json:"server"`
	WhyClient     string        `json:"why_client,omitempty"`
	Contacts      int           `json:"contacts"`
	Buckets       int           `json:"buckets"`
	Replacements  int           `json:"replacements"`
	Records       int           `json:"records"` // kept for others
	RecordBytes   int           `json:"record_bytes"`
	Floors        int           `json:"floors"`  // sequence numbers remembered
	Entries       int           `json:"entries"` // public entries kept for others
	EntryBytes    int           `json:"entry_bytes"`
	Lookups       uint64        `json:"lookups"`
	Calls         uint64        `json:"calls"`   // to others
	Failed        uint64        `json:"failed"`  // of these
	Served        uint64        `json:"served"`  // requests of others
	Refused       uint64        `json:"refused"` // malformed ones
	Seq           uint64        `json:"seq"`     // of the own record
	Published     time.Time     `json:"published,omitzero"`
	PublishTook   time.Duration `json:"publish_took_ns"`
	Holders       int           `json:"holders"` // of the own record
	PublishError  string        `json:"publish_error,omitempty"`
	ReadBackUntil time.Time     `json:"read_back_until,omitzero"` // the end of the record that others were last seen to have
	ClockOff      time.Duration `json:"clock_off_ns"`             // this clock minus the others'
	Nodes         int           `json:"nodes"`                    // estimate of the network's size
	Session       time.Duration `json:"session_ns"`               // estimate of a node's median stay
	UplinkDown    time.Time     `json:"uplink_down,omitzero"`     // since then nobody answers
	Late          time.Duration `json:"late_ns"`                  // how late this node runs: a busy machine
	OwnCalls      int           `json:"own_calls"`                // that it therefore makes at once for itself, at most
}
