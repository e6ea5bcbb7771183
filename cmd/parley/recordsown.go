package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// linkJSON is a delegation as --json prints it. What is zero does not limit.
type linkJSON struct {
	Delegation sdk.Hash      `json:"delegation"`
	From       sdk.AgentID   `json:"from"`
	To         sdk.AgentID   `json:"to"`
	DNA        sdk.DNAHash   `json:"dna"`
	NotBefore  time.Time     `json:"not_before,omitzero"`
	Expires    time.Time     `json:"expires"`
	Depth      int           `json:"depth"`
	All        bool          `json:"all_functions"`
	Messages   bool          `json:"messages"`
	Functions  []string      `json:"functions"`
	Agents     []sdk.AgentID `json:"agents"`
	Uses       int           `json:"uses,omitempty"`
	Rate       int           `json:"rate,omitempty"`
	Per        time.Duration `json:"per_ns,omitempty"`
	MaxPayload int           `json:"max_payload,omitempty"`
}

func linksJSON(links []sdk.Link) []linkJSON {
	out := make([]linkJSON, 0, len(links))
	for i := range links {
		l := &links[i]
		out = append(out, linkJSON{Delegation: l.ID(), From: l.From, To: l.To, DNA: l.DNA, NotBefore: l.NotBefore, Expires: l.Expires, Depth: l.Depth,
			All: l.All, Messages: l.Messages, Functions: listed(l.Functions), Agents: listed(l.Agents), Uses: l.Uses, Rate: l.Rate.N, Per: l.Rate.Per, MaxPayload: l.MaxPayload})
	}
	return out
}

// ownEntry shows the entries of the node's own that are no payloads: a line of text,
// and a value for --json; false: it is none of those, or can't be read.
func ownEntry(entryType string, content []byte) (text string, value any, ok bool) {
	switch entryType {
	case sdk.TypeDelegation:
		links, err := sdk.Proof(content).Links()
		if err != nil {
			return "", nil, false
		}
		l := &links[len(links)-1]
		return fmt.Sprintf("%s to %s, functions %s, messages %s, until %s", l.ID(), l.To.Short(), linkFunctions(l), yesNo(l.Messages), l.Expires.Format(time.RFC3339)),
			map[string]any{"links": linksJSON(links)}, true
	case sdk.TypeRevocation:
		r, err := sdk.ParseRevocation(content)
		return "end of delegation " + r.Delegation.String(), map[string]any{"delegation": r.Delegation, "expires": r.Expires}, err == nil
	case sdk.TypeBehalf:
		e, err := sdk.ParseBehalf(content)
		if err != nil {
			return "", nil, false
		}
		links, err := e.Proof.Links()
		if err != nil {
			return "", nil, false
		}
		text = "on behalf of " + links[0].From.Short()
		for i := range links {
			text += " > " + links[i].To.Short()
		}
		return text, map[string]any{"time": e.Time, "function": e.Function, "links": linksJSON(links)}, true
	case sdk.TypeReceipt:
		r, err := sdk.ParseReceipt(content)
		q := &r.Request
		what := q.Function
		if what == "" {
			what = "message"
		}
		return fmt.Sprintf("%s %s from %s to %s, request %s, reply %s", what, q.Message, q.From.Short(), q.To.Short(), q.Payload, r.Reply),
			map[string]any{"message": q.Message, "from": q.From, "to": q.To, "function": q.Function, "time": q.Time, "request": q.Payload,
				"reply": r.Reply, "behalf": q.Behalf}, err == nil
	}
	return "", nil, false
}

func ownJSON(entryType string, content []byte) json.RawMessage {
	_, value, ok := ownEntry(entryType, content)
	if !ok {
		return nil
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return b
}
