package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/parley-p2p/parley/node"
)

// limitFlags defines the flags of the limits: those names that the errors state.
func limitFlags(p *pflag.FlagSet, l *node.Limits) {
	d := node.DefaultLimits()
	p.IntVar(&l.MaxRequests, "max-requests", d.MaxRequests, "requests of one other node that are served at once")
	p.IntVar(&l.MaxInboundSessions, "max-inbound-sessions", d.MaxInboundSessions, "sessions that other nodes have dialled, at most three quarters of max-sessions")
	p.IntVar(&l.MaxInboundPerNetwork, "max-inbound-per-network", d.MaxInboundPerNetwork, "those of one network, an IPv4 /24 or IPv6 /48; not of loopback and private addresses")
	p.IntVar(&l.MaxDHTSessions, "max-dht-sessions", d.MaxDHTSessions, "sessions that this node has dialled for the DHT alone")
	p.IntVar(&l.MaxDHTInbound, "max-dht-inbound", d.MaxDHTInbound, "sessions that other nodes have dialled for the DHT alone")
	p.DurationVar(&l.DHTSessionIdle, "dht-session-idle", d.DHTSessionIdle, "how long a session for the DHT alone is kept that nobody uses")
	p.IntVar(&l.ControlMaxCalls, "control-max-calls", d.ControlMaxCalls, "requests of the control API that run at once")
	p.IntVar(&l.HandlerMaxCalls, "handler-max-calls", d.HandlerMaxCalls, "calls of one handler that run at once")
	p.IntVar(&l.HandlerMaxQueue, "handler-max-queue", d.HandlerMaxQueue, "calls that wait for one handler")
	p.DurationVar(&l.HandlerStartTimeout, "handler-start-timeout", d.HandlerStartTimeout, "how long a handler may take to start")
	p.DurationVar(&l.HandlerDrainTimeout, "handler-drain-timeout", d.HandlerDrainTimeout, "how long calls may go on when the node stops")
	p.DurationVar(&l.HandlerSwapTimeout, "handler-swap-timeout", d.HandlerSwapTimeout, "how long calls may go on when a new process has taken their handler's place, or its file is gone")
	p.DurationVar(&l.HandlerRestartWait, "handler-restart-wait", d.HandlerRestartWait, "how long a call waits for a handler that is being restarted")
	p.DurationVar(&l.HandlerStuckAfter, "handler-stuck-after", d.HandlerStuckAfter, "how long a call may go on that nobody waits for, before its process is replaced")
	p.DurationVar(&l.HandlerInitTimeout, "handler-init-timeout", d.HandlerInitTimeout, "how long a handler's init may take")
	p.IntVar(&l.ChainMaxEntries, "chain-max-entries", d.ChainMaxEntries, "entries that one call commits")
	p.IntVar(&l.ChainMaxEntry, "chain-max-entry", d.ChainMaxEntry, "largest entry, in bytes")
	p.IntVar(&l.ChainMaxBatch, "chain-max-batch", d.ChainMaxBatch, "entries and reply of one call together, in bytes")
	p.IntVar(&l.ChainMaxQuery, "chain-max-query", d.ChainMaxQuery, "largest answer of one query, in bytes")
	p.IntVar(&l.ChainReplyCount, "chain-reply-count", d.ChainReplyCount, "outcomes of messages that a chain keeps for their repetitions")
	p.IntVar(&l.ChainReplyBytes, "chain-reply-bytes", d.ChainReplyBytes, "their bytes")
	p.IntVar(&l.PublicEntries, "public-entries", d.PublicEntries, "newest public entries that are kept published")
	p.IntVar(&l.PublicSearches, "public-searches", d.PublicSearches, "searches for public entries of others that run at once")
	p.IntVar(&l.PublicRevocations, "public-revocations", d.PublicRevocations, "revoked delegations, of all DNAs, whose revocations are kept published until they would have ended")
	p.IntVar(&l.MaxGrants, "max-grants", d.MaxGrants, "grants of one DNA that are not over")
	p.IntVar(&l.MaxClaims, "max-claims", d.MaxClaims, "claims that are held, of all agents' grants")
	p.IntVar(&l.MaxClaimsPerAgent, "max-claims-per-agent", d.MaxClaimsPerAgent, "those of one agent that its node has told of")
	p.IntVar(&l.PolicyMaxAgents, "policy-max-agents", d.PolicyMaxAgents, "agents of whom the lists and limits say something")
	p.IntVar(&l.NotifyQueue, "notify-queue", d.NotifyQueue, "notifications that wait to be sent to one agent")
	p.IntVar(&l.NotifyBytes, "notify-bytes", d.NotifyBytes, "bytes that all notifications take that wait to be sent; those to one agent at most a quarter")
	p.IntVar(&l.NotifyInbox, "notify-inbox", d.NotifyInbox, "notifications of one sender that wait for a DNA's notified")
}

// sandboxFlags defines the flags of the handlers' sandbox.
func sandboxFlags(p *pflag.FlagSet, s *node.Sandbox) {
	d := node.DefaultSandbox()
	p.StringVar(&s.Mode, "handler-sandbox", d.Mode, `"auto": confine handlers by what the system allows; "strict": start none that can't be confined by all of it; "off"`)
	p.IntVar(&s.Memory, "handler-memory", d.Memory, "memory of one handler, in bytes")
	p.IntVar(&s.Processes, "handler-processes", d.Processes, "processes and threads of one handler")
	p.IntVar(&s.OpenFiles, "handler-open-files", d.OpenFiles, "open files of each process of a handler")
}

// notPositive tells of each number and duration that is 0 or less: node.Config
// takes a 0 for "not set", and none of them may be negative.
func notPositive(flags *pflag.FlagSet) (errs []error) {
	flags.VisitAll(func(f *pflag.Flag) {
		var positive bool
		switch f.Value.Type() {
		case "int":
			n, err := flags.GetInt(f.Name)
			positive = err == nil && n > 0
		case "duration":
			d, err := flags.GetDuration(f.Name)
			positive = err == nil && d > 0
		default:
			return
		}
		if !positive {
			errs = append(errs, fmt.Errorf("--%s: %s is not more than 0", f.Name, f.Value))
		}
	})
	return errs
}
