package agency

import (
	"math"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// windowSlots is how finely a Window tells times apart: what it has let in counts
// for up to one part more of the time than it must. So it needs the same memory
// for every rate, and never lets in more than the rate.
const windowSlots = 64

// Window counts what happens against a rate: in each span of Rate.Per at most
// Rate.N. The zero Rate lets everything in.
type Window struct {
	rate  sdk.Rate
	began time.Time // the first Take: slot 0
	slots []slot    // oldest first; those that still count
	sum   int
}

type slot struct {
	number int64
	n      int
}

// NewWindow counts against r.
func NewWindow(r sdk.Rate) *Window { return &Window{rate: r} }

func (w *Window) width() time.Duration { return max(1, w.rate.Per/windowSlots) }

// ends is when what is in a slot counts no more, since began: never, where that is
// more than a Duration holds.
func (w *Window) ends(number int64) time.Duration {
	end := time.Duration(number+1)*w.width() + w.rate.Per
	if end < w.rate.Per {
		return math.MaxInt64
	}
	return end
}

// Take lets one more in, or says how long it has to wait; 0: it is in.
func (w *Window) Take(now time.Time) (wait time.Duration) {
	if w.rate.N == 0 {
		return 0
	}
	if w.began.IsZero() {
		w.began = now
	}
	at := max(0, now.Sub(w.began)) // a clock of its own: setting the machine's changes nothing
	for len(w.slots) > 0 && w.ends(w.slots[0].number) <= at {
		w.sum -= w.slots[0].n
		w.slots = w.slots[1:]
	}
	if w.sum >= w.rate.N {
		free := w.sum + 1 - w.rate.N
		for _, s := range w.slots {
			if free -= s.n; free <= 0 {
				return w.ends(s.number) - at
			}
		}
	}
	number := int64(at / w.width())
	if last := len(w.slots) - 1; last >= 0 && w.slots[last].number >= number {
		w.slots[last].n++
	} else {
		w.slots = append(w.slots, slot{number, 1})
	}
	w.sum++
	return 0
}

// GiveBack takes the newest Take back.
func (w *Window) GiveBack() {
	last := len(w.slots) - 1
	if last < 0 {
		return
	}
	w.sum--
	if w.slots[last].n--; w.slots[last].n == 0 {
		w.slots = w.slots[:last]
	}
}
