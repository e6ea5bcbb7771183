package agency

import (
	"errors"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// MayNotify holds a notice's proof against what is to be sent under it, with one look
// at its signatures. refused[i] says why n.To[i] may not be notified; refused is nil
// where all may. The notice as a whole fails where the proof does not hold, allows no
// such message, or, unless each one's result is waited for, names none of n.To.
func MayNotify(now time.Time, presenter sdk.AgentID, dna sdk.DNAHash, n *sdk.Notice) (b *sdk.Behalf, refused []*sdk.Error, e *sdk.Error) {
	if err := n.Behalf.Check(now); err != nil {
		return nil, nil, Refused(err.Error())
	}
	links, err := n.Behalf.Links()
	if err != nil {
		return nil, nil, Refused(err.Error())
	}
	b = &sdk.Behalf{Links: links}
	count := 0
	for i, to := range n.To {
		err := b.Allows(sdk.Use{Presenter: presenter, DNA: dna, To: to, Payload: len(n.Payload)})
		if err == nil {
			continue
		}
		broken, ok := errors.AsType[*sdk.ProofError](err)
		if !ok || broken.Rule != sdk.RuleToAgent {
			return nil, nil, Refused(err.Error())
		}
		if refused == nil {
			refused = make([]*sdk.Error, len(n.To))
		}
		refused[i] = Refused(err.Error())
		if count++; count == len(n.To) && !n.Wait {
			return nil, nil, refused[i]
		}
	}
	return b, refused, nil
}
