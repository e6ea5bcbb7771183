// Command presence tells a group who is there. Nothing of it is kept: heartbeats and
// notes are notifications, and what was heard lives in this process's memory.
package main

import (
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// fresh is how long a heartbeat counts.
const fresh = 15 * time.Second

// maxGroup bounds a group, and so this process's memory.
const maxGroup = 256

// Beat is a heartbeat: the sender's mood, and a note to everybody if there is one.
type Beat struct {
	Mood string `json:"mood"`
	Note string `json:"note"`
}

// Heard is the last heartbeat of a member.
type Heard struct {
	Agent sdk.AgentID `json:"agent"`
	Mood  string      `json:"mood"`
	At    time.Time   `json:"at"`
	Here  bool        `json:"here"`
}

// Signal is what the agent's own clients see with "parley watch presence".
type Signal struct {
	From sdk.AgentID `json:"from"`
	Beat
	Came bool `json:"came"` // was not here before
}

// group is who belongs to it and what was heard of them.
type group struct {
	mu      sync.Mutex
	members []sdk.AgentID
	heard   map[sdk.AgentID]Heard
}

// join names the others of the group.
func (g *group) join(c *sdk.Context, members []sdk.AgentID) (int, error) {
	if len(members) > maxGroup {
		return 0, sdk.Fail("presence.group", "%d members, at most %d", len(members), maxGroup)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members, g.heard = nil, map[sdk.AgentID]Heard{}
	for _, m := range members {
		if m != c.Agent() && !slices.Contains(g.members, m) {
			g.members = append(g.members, m)
		}
	}
	return len(g.members), nil
}

// beat sends a heartbeat to all of them, and does not wait: who is slow or away
// costs the others nothing.
func (g *group) beat(c *sdk.Context, b Beat) (struct{}, error) {
	return struct{}{}, sdk.Notify(c, g.others(), b)
}

// tell is beat that says who took it.
func (g *group) tell(c *sdk.Context, b Beat) (map[string]string, error) {
	members := g.others()
	results, err := sdk.NotifyAndWait(c, members, b)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i, err := range results {
		out[members[i].String()] = "taken"
		if err != nil {
			out[members[i].String()] = err.Error()
		}
	}
	return out, nil
}

func (g *group) others() []sdk.AgentID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}

// notified hears a heartbeat. Only members are heard.
func (g *group) notified(c *sdk.Context, b Beat) error {
	now := time.Now()
	g.mu.Lock()
	if !slices.Contains(g.members, c.From()) {
		g.mu.Unlock()
		return sdk.Fail("presence.stranger", "not of this group")
	}
	before := g.heard[c.From()]
	g.heard[c.From()] = Heard{Agent: c.From(), Mood: b.Mood, At: now}
	g.mu.Unlock()
	return c.Emit(Signal{From: c.From(), Beat: b, Came: now.Sub(before.At) > fresh})
}

// who lists the members: here if a heartbeat is fresh, or else if the node's own
// session says so.
func (g *group) who(c *sdk.Context, _ struct{}) ([]Heard, error) {
	now := time.Now()
	list := []Heard{}
	for _, m := range g.others() {
		g.mu.Lock()
		h := g.heard[m]
		g.mu.Unlock()
		h.Agent = m
		p, err := c.Online(m)
		if err != nil {
			return nil, err
		}
		h.Here = now.Sub(h.At) <= fresh || p.Online
		if p.LastHeard.After(h.At) {
			h.At = p.LastHeard
		}
		list = append(list, h)
	}
	return list, nil
}

func define() *sdk.Definition {
	g := &group{heard: map[sdk.AgentID]Heard{}}
	return sdk.Define("presence", "1", sdk.Function("join", g.join), sdk.Function("beat", g.beat),
		sdk.Function("tell", g.tell), sdk.Function("who", g.who), sdk.Notified(g.notified))
}

func main() { serve.Main(define()) }
