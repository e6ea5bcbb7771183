package node

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// Limits are the settings that few operators change. The errors that a limit
// causes name it as the settings do: HandlerMaxCalls is handler-max-calls. A
// zero means the default.
type Limits struct {
	// MaxRequests bounds the requests of one other node that are served at once.
	MaxRequests int
	// MaxInboundSessions bounds the sessions that others have dialled, which are at
	// most three quarters of all; MaxInboundPerNetwork those from one network (an
	// IPv4 /24 or IPv6 /48). MaxDHTSessions bounds those that this node has
	// dialled for the DHT alone, MaxDHTInbound such that others have dialled, and
	// DHTSessionIdle how long one of the first is kept that nobody uses.
	MaxInboundSessions, MaxInboundPerNetwork, MaxDHTSessions, MaxDHTInbound int
	DHTSessionIdle                                                          time.Duration
	// ControlMaxCalls bounds the requests of the control API that run at once.
	ControlMaxCalls int

	// HandlerMaxCalls bounds the calls of one handler that run at once,
	// HandlerMaxQueue those that wait for it.
	HandlerMaxCalls, HandlerMaxQueue int
	// HandlerStartTimeout bounds a handler's start, HandlerDrainTimeout how long
	// its calls may go on when the node stops, HandlerSwapTimeout how long when
	// another process has taken its place, HandlerRestartWait how long a call waits
	// for a handler that is being restarted, HandlerInitTimeout what init may take,
	// HandlerStuckAfter how long a call may go on that nobody waits for.
	HandlerStartTimeout, HandlerDrainTimeout, HandlerSwapTimeout, HandlerRestartWait, HandlerInitTimeout, HandlerStuckAfter time.Duration

	// ChainMaxEntries bounds what one call commits, ChainMaxEntry one entry in
	// bytes, ChainMaxBatch the entries and the reply of one call, ChainMaxQuery
	// the answer of one query.
	ChainMaxEntries, ChainMaxEntry, ChainMaxBatch, ChainMaxQuery int
	// ChainReplyCount and ChainReplyBytes bound the outcomes of messages that
	// each chain keeps for their repetitions.
	ChainReplyCount, ChainReplyBytes int

	// PublicEntries bounds the newest public entries, of all DNAs together, that
	// are kept published, and their bytes to 2 KiB times as many; PublicSearches
	// the searches for those of others that run at once.
	PublicEntries, PublicSearches int
	// PublicRevocations bounds the revoked delegations, of all DNAs together, that
	// have not ended by themselves: their revocations are kept published until then.
	PublicRevocations int

	// MaxGrants bounds the grants of one DNA that are not over, MaxClaims the claims
	// that are held in all, MaxClaimsPerAgent those of one agent that its node has
	// told of, PolicyMaxAgents the agents of whom there is a rule.
	MaxGrants, MaxClaims, MaxClaimsPerAgent, PolicyMaxAgents int

	// NotifyQueue bounds the notifications that wait to be sent to one agent,
	// NotifyBytes what all that wait take (a quarter of it those to one agent, where
	// there is more than one), NotifyInbox those of one sender that wait for a DNA's
	// notified.
	NotifyQueue, NotifyBytes, NotifyInbox int
}

// DefaultLimits are what the zeros of Limits mean.
func DefaultLimits() Limits {
	return Limits{
		MaxRequests: 256, ControlMaxCalls: 256,
		MaxInboundSessions: inboundShare(DefaultMaxSessions), MaxInboundPerNetwork: 256,
		MaxDHTSessions: 256, MaxDHTInbound: 1024, DHTSessionIdle: 10 * time.Minute,
		HandlerMaxCalls: 256, HandlerMaxQueue: 1024,
		HandlerStartTimeout: 10 * time.Second, HandlerDrainTimeout: 10 * time.Second, HandlerSwapTimeout: 2 * time.Minute,
		HandlerRestartWait: 5 * time.Second, HandlerInitTimeout: 30 * time.Second, HandlerStuckAfter: 30 * time.Second,
		ChainMaxEntries: 1024, ChainMaxEntry: 4 << 20, ChainMaxBatch: 32 << 20, ChainMaxQuery: 16 << 20,
		ChainReplyCount: 1 << 20, ChainReplyBytes: 256 << 20,
		PublicEntries: 64, PublicSearches: 64, PublicRevocations: 64,
		MaxGrants: 4096, MaxClaims: 4096, MaxClaimsPerAgent: 64, PolicyMaxAgents: 16384,
		NotifyQueue: 16384, NotifyBytes: 64 << 20, NotifyInbox: 256,
	}
}

// named is a limit by the name that its setting has, and what it may be.
type named[T int | time.Duration] struct {
	setting     string
	value       *T
	least, most T
}

// sizes and times list the fields; their bounds are those of the parts.
func (l *Limits) sizes() []named[int] {
	const entry = 256 << 20 // a record of bbolt's, and a transaction in memory
	return []named[int]{
		{"max-requests", &l.MaxRequests, 1, 1 << 20},
		{"max-inbound-sessions", &l.MaxInboundSessions, 1, 1 << 30},
		{"max-inbound-per-network", &l.MaxInboundPerNetwork, 1, 1 << 30},
		{"max-dht-sessions", &l.MaxDHTSessions, 1, 1 << 30},
		{"max-dht-inbound", &l.MaxDHTInbound, 1, 1 << 30},
		{"control-max-calls", &l.ControlMaxCalls, 1, 1 << 20},
		{"handler-max-calls", &l.HandlerMaxCalls, 1, 2048},
		{"handler-max-queue", &l.HandlerMaxQueue, 1, 1 << 20},
		{"chain-max-entries", &l.ChainMaxEntries, 1, 1 << 16},
		{"chain-max-entry", &l.ChainMaxEntry, 1, entry},
		{"chain-max-batch", &l.ChainMaxBatch, 1, entry},
		{"chain-max-query", &l.ChainMaxQuery, 1, 1 << 30},
		{"chain-reply-count", &l.ChainReplyCount, 1, 1 << 30},
		{"chain-reply-bytes", &l.ChainReplyBytes, 1, math.MaxInt32},
		{"public-entries", &l.PublicEntries, 1, 1 << 12},
		{"public-searches", &l.PublicSearches, 1, 1 << 12},
		{"public-revocations", &l.PublicRevocations, 1, 1 << 12},
		{"max-grants", &l.MaxGrants, 1, 1 << 16},
		{"max-claims", &l.MaxClaims, 1, 1 << 16},
		{"max-claims-per-agent", &l.MaxClaimsPerAgent, 1, 1 << 12},
		{"policy-max-agents", &l.PolicyMaxAgents, 1, 1 << 17},
		{"notify-queue", &l.NotifyQueue, 1, 1 << 20},
		{"notify-bytes", &l.NotifyBytes, 1 << 16, math.MaxInt32},
		{"notify-inbox", &l.NotifyInbox, 1, 1 << 16},
	}
}

func (l *Limits) times() []named[time.Duration] {
	return []named[time.Duration]{
		{"dht-session-idle", &l.DHTSessionIdle, time.Minute, 24 * time.Hour},
		{"handler-start-timeout", &l.HandlerStartTimeout, time.Millisecond, time.Hour},
		{"handler-drain-timeout", &l.HandlerDrainTimeout, time.Millisecond, time.Hour},
		{"handler-swap-timeout", &l.HandlerSwapTimeout, time.Millisecond, time.Hour},
		{"handler-restart-wait", &l.HandlerRestartWait, time.Millisecond, time.Hour},
		{"handler-stuck-after", &l.HandlerStuckAfter, time.Millisecond, time.Hour},
		{"handler-init-timeout", &l.HandlerInitTimeout, time.Millisecond, maxDeadline},
	}
}

func fill[T int | time.Duration](fields, defaults []named[T]) {
	for i, f := range fields {
		if *f.value == 0 {
			*f.value = *defaults[i].value
		}
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	fill(l.sizes(), d.sizes())
	fill(l.times(), d.times())
	return l
}

func (l Limits) validate() error {
	var errs []error
	for _, f := range l.sizes() {
		if *f.value < f.least || *f.value > f.most {
			errs = append(errs, fmt.Errorf("%s: %d, between %d and %d", f.setting, *f.value, f.least, f.most))
		}
	}
	for _, f := range l.times() {
		if *f.value < f.least || *f.value > f.most {
			errs = append(errs, fmt.Errorf("%s: %s, between %s and %s", f.setting, *f.value, f.least, f.most))
		}
	}
	return errors.Join(errs...)
}

// commitLimits bound what one call stages. chain-max-batch is not among them: it
// counts the call's reply too, which is known only at its end.
func (c *Config) commitLimits() sdk.CommitLimits {
	return sdk.CommitLimits{Entries: c.Limits.ChainMaxEntries, Entry: c.Limits.ChainMaxEntry, Bytes: c.MaxPayload}
}

// inboundShare is how many of all sessions others may have dialled: what this
// node dials must find a place, whoever dials it.
func inboundShare(all int) int { return max(1, all-max(1, all/4)) }

func (l Limits) inboundSessions(all int) int { return min(l.MaxInboundSessions, inboundShare(all)) }

// ofTransport, ofPlugin and ofChain carry the limits to the parts.
func (l Limits) ofTransport(c transport.Config, sessions int) transport.Config {
	c.MaxRequests, c.MaxSessions = l.MaxRequests, sessions
	c.MaxInbound, c.MaxInboundPerNet = l.inboundSessions(sessions), l.MaxInboundPerNetwork
	c.MaxBackground, c.MaxBackgroundInbound, c.BackgroundIdle = l.MaxDHTSessions, l.MaxDHTInbound, l.DHTSessionIdle
	return c
}

func (l Limits) ofPlugin(c plugin.Config) plugin.Config {
	c.MaxCalls, c.MaxQueue = l.HandlerMaxCalls, l.HandlerMaxQueue
	c.StartTimeout, c.DrainTimeout, c.RestartWait = l.HandlerStartTimeout, l.HandlerDrainTimeout, l.HandlerRestartWait
	c.SwapTimeout, c.StuckAfter = l.HandlerSwapTimeout, l.HandlerStuckAfter
	return c
}

func (l Limits) ofChain(o chain.Options) chain.Options {
	o.MaxEntries, o.MaxEntry, o.MaxBatch, o.MaxQuery = l.ChainMaxEntries, l.ChainMaxEntry, l.ChainMaxBatch, l.ChainMaxQuery
	o.ReplyCount, o.ReplyBytes = l.ChainReplyCount, int64(l.ChainReplyBytes)
	return o
}
