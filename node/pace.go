package node

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// A revocation that another agent sends has to be verified, 0.1 ms, and nobody has
// asked for it. What is over the pace is passed over: who needs it finds it in the
// DHT. An honest author has at most public-revocations to tell of at once.
var (
	toldByOne       = sdk.Rate{N: 64, Per: time.Minute}
	toldByStrangers = sdk.Rate{N: 600, Per: time.Minute} // together: keys cost nothing
	// toldInUse is of those together who are strangers, but for a delegation of theirs
	// that came with a message: that took a look into the DHT, of which there are few.
	toldInUse = sdk.Rate{N: 6000, Per: time.Minute}
)

// tellerKind says what is known of who tells.
type tellerKind uint8

const (
	tellerStranger tellerKind = iota
	tellerInUse               // a proof had a delegation of his
	tellerKnown               // a grant or the allow list names him
)

// maxTellers bounds the agents whose pace is remembered.
const maxTellers = 4096

// toldPace says which revocations are looked at. It is a pure state machine.
type toldPace struct {
	agents    map[sdk.AgentID]*agency.Window
	ages      []sdk.AgentID // the longest remembered first
	strangers *agency.Window
	inUse     *agency.Window
}

func newToldPace() *toldPace {
	return &toldPace{agents: map[sdk.AgentID]*agency.Window{}, strangers: agency.NewWindow(toldByStrangers), inUse: agency.NewWindow(toldInUse)}
}

// take tells whether one more of this agent's is looked at.
func (p *toldPace) take(now time.Time, from sdk.AgentID, who tellerKind) bool {
	w := p.agents[from]
	if w == nil {
		if len(p.ages) == maxTellers {
			delete(p.agents, p.ages[0])
			p.ages = p.ages[1:]
		}
		w = agency.NewWindow(toldByOne)
		p.agents[from] = w
		p.ages = append(p.ages, from)
	}
	if w.Take(now) != 0 {
		return false
	}
	switch who {
	case tellerStranger:
		return p.strangers.Take(now) == 0
	case tellerInUse:
		return p.inUse.Take(now) == 0
	}
	return true
}
