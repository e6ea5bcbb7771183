package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Defaults of Config.
const (
	DefaultListen      = "0.0.0.0:7480"
	DefaultNetwork     = "parley"
	DefaultDeadline    = 60 * time.Second
	DefaultResendFor   = 10 * time.Second
	DefaultMaxPayload  = 16 << 20
	DefaultMaxSessions = 16384
)

// Config says how a node runs. Only DataDir is required.
type Config struct {
	// DataDir holds the agent's key, the source chains and the control socket.
	// It is made (mode 0700) if it is not there. One node at a time runs on it.
	DataDir string
	// PluginDir holds the handlers' binaries. Empty: no handler processes.
	PluginDir string
	// PinnedOnly has none of them run but those that are pinned (AddPins).
	PinnedOnly bool
	// Sandbox is that of their processes.
	Sandbox Sandbox
	// DebugHandlers has no handler process ended because it stands still, so that
	// a debugger can hold it.
	DebugHandlers bool
	// Handlers run in this process, beside those of PluginDir.
	Handlers []sdk.Handler
	// DNAs are the operator's settings, by the DNA's name.
	DNAs map[string]DNASettings

	// Network names the network: nodes of different networks don't hear one
	// another. At most 64 bytes.
	Network string
	// Listen is the TCP address to listen on, "HOST:PORT"; port 0 lets the
	// system choose. Empty: the node dials and can't be dialled.
	Listen string
	// Advertise are the addresses to publish instead of those found out from
	// Listen, such as a router's forwarded one.
	Advertise []netip.AddrPort
	// Bootstrap are nodes through which to enter the network.
	Bootstrap []Peer

	// Deadline is that of a call or send that states none.
	Deadline time.Duration
	// ResendFor is how long a message is sent again whose session broke after it
	// may have left, before its caller learns "outcome unknown": longer than a
	// node's restart takes, much shorter than the deadline.
	ResendFor time.Duration
	// MaxPayload bounds a message's payload and its reply, in bytes.
	MaxPayload int
	// MaxSessions bounds the sessions with other nodes.
	MaxSessions int
	// Limits are the settings that few operators change.
	Limits Limits

	Log *slog.Logger

	handlerEnv []string   // for tests: more of the handlers' environment
	entries    entryDHT   // for tests: instead of the DHT
	agencyStep agencyStep // for tests
}

// DNASettings are what an operator sets for one DNA. Both are part of its hash.
type DNASettings struct {
	NetworkSeed string
	Properties  []byte
}

// Peer is an agent and where to find it.
type Peer struct {
	Agent sdk.AgentID
	// Host is "HOST:PORT"; a host name is looked up each time it is needed.
	Host string
}

// ParsePeer reads "AGENT@HOST:PORT".
func ParsePeer(s string) (Peer, error) {
	agentText, host, ok := strings.Cut(s, "@")
	if !ok {
		return Peer{}, fmt.Errorf("peer %q: AGENT@HOST:PORT expected", s)
	}
	agent, err := sdk.ParseAgentID(agentText)
	if err != nil {
		return Peer{}, fmt.Errorf("peer %q: %w", s, err)
	}
	if h, port, err := net.SplitHostPort(host); err != nil || h == "" || port == "" {
		return Peer{}, fmt.Errorf("peer %q: HOST:PORT expected after the @", s)
	}
	return Peer{Agent: agent, Host: host}, nil
}

func (p Peer) String() string { return p.Agent.String() + "@" + p.Host }

func (c Config) withDefaults() Config {
	if c.Network == "" {
		c.Network = DefaultNetwork
	}
	if c.Deadline == 0 {
		c.Deadline = DefaultDeadline
	}
	if c.ResendFor == 0 {
		c.ResendFor = DefaultResendFor
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = DefaultMaxPayload
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = DefaultMaxSessions
	}
	c.Limits = c.Limits.withDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// maxDeadline bounds how long a message of another agent may keep this node
// busy, whatever time it says is left.
const maxDeadline = 10 * time.Minute

func (c Config) validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data directory: none given"))
	}
	if len(c.Network) > 64 {
		errs = append(errs, fmt.Errorf("network name: %d bytes, at most 64", len(c.Network)))
	}
	if c.Deadline < 0 || c.Deadline > maxDeadline {
		errs = append(errs, fmt.Errorf("deadline: %s, at most %s", c.Deadline, maxDeadline))
	}
	if c.ResendFor < 0 {
		errs = append(errs, fmt.Errorf("resend-for: %s is negative", c.ResendFor))
	}
	if c.MaxPayload < 1 || c.MaxPayload > 1<<30 {
		errs = append(errs, fmt.Errorf("max-payload: %d bytes, between 1 and %d", c.MaxPayload, 1<<30))
	}
	if c.MaxSessions < 1 {
		errs = append(errs, fmt.Errorf("max-sessions: %d, at least 1", c.MaxSessions))
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("listen: %w", err))
		}
	}
	for name, s := range c.DNAs {
		if len(s.NetworkSeed) > 256 {
			errs = append(errs, fmt.Errorf("dna %s: network seed of %d bytes, at most 256", name, len(s.NetworkSeed)))
		}
		if len(s.Properties) > 64<<10 {
			errs = append(errs, fmt.Errorf("dna %s: properties of %d bytes, at most %d", name, len(s.Properties), 64<<10))
		}
	}
	if err := errors.Join(append(errs, c.Limits.validate())...); err != nil {
		return &ConfigError{err}
	}
	return nil
}

// ConfigError says what is wrong with a Config. Nothing was done.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

func (c Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.DataDir}, elem...)...)
}
