package agency

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// busyRetry is when an agent that is at one of its limits may try again.
const busyRetry = time.Second

// Load counts what of each agent is being served, where it has limits.
type Load struct {
	agents map[sdk.AgentID]*[limits]int
}

// NewLoad counts nothing yet.
func NewLoad() *Load { return &Load{agents: map[sdk.AgentID]*[limits]int{}} }

// Amount is how much of each limit something takes.
type Amount [limits]int

// Begin counts something in, or says which limit forbids it. Who is let in is
// counted out by End, with the same amount, whatever the rules are by then.
func (l *Load) Begin(r *Rules, agent sdk.AgentID, amount Amount) *sdk.Error {
	used := l.agents[agent]
	if used == nil {
		used = new([limits]int)
	}
	for i, n := range amount {
		most := r.Limit(agent, i)
		switch {
		case most == 0 || n == 0 || used[i]+n <= most:
		case n > most: // it would never be let in
			return &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
				Text:  "this node takes less of this agent",
				Limit: &sdk.Limit{Name: limitTexts[i], Setting: LimitNames[i], Value: uint64(n), Max: uint64(most)}}
		default:
			return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
				Text: "this agent has too much under way here",
				Limit: &sdk.Limit{Name: limitTexts[i], Setting: LimitNames[i], Value: uint64(used[i] + n), Max: uint64(most),
					RetryAfter: busyRetry}}
		}
	}
	for i, n := range amount {
		used[i] += n
	}
	l.agents[agent] = used
	return nil
}

var limitTexts = [limits]string{"requests of one agent at once", "bytes of one agent's requests", "notifications of one agent that wait"}

// End counts out what Begin has counted in.
func (l *Load) End(agent sdk.AgentID, amount Amount) {
	used := l.agents[agent]
	if used == nil {
		return
	}
	for i, n := range amount {
		used[i] = max(0, used[i]-n)
	}
	if *used == ([limits]int{}) {
		delete(l.agents, agent)
	}
}

// Of is what an agent has under way, as far as it is counted.
func (l *Load) Of(agent sdk.AgentID) (used Amount) {
	if u := l.agents[agent]; u != nil {
		used = *u
	}
	return used
}
