package sdktest

import (
	"errors"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// testGet: what an agent committed as public another one finds, whichever call
// committed it, and nothing else. To publish it takes some time.
func testGet(b *bench) {
	b.do(b.alice, Step{Op: "commit", Text: "public", Public: true})
	b.do(b.alice, Step{Op: "commit", Text: "private"})
	b.do(b.alice, Step{Op: "commit", Text: "not valid elsewhere", Public: true})
	b.do(b.bob, Step{Op: "send", To: b.alice.ID(), Then: &Step{Op: "commit", Text: "by a receive", Public: true}})
	for _, r := range b.records(b.alice) {
		var text string
		if r.Header.EntryType == "note" {
			if err := sdk.Unmarshal(r.Content, &text); err != nil {
				b.Fatal(err)
			}
		}
		public := text == "public" || text == "by a receive"
		for _, p := range []Peer{b.alice, b.bob} {
			got, err := b.get(p, r.Hash(), public || text == "not valid elsewhere")
			switch {
			case public || text == "not valid elsewhere" && p == b.alice:
				if err != nil || got.Text != text || got.From != b.alice.ID() {
					b.Errorf("%q: %+v, %v", text, got, err)
				}
			case text == "not valid elsewhere":
				b.wantRetry(b.want(err, sdk.HandlerFailed, sdk.HandlerCodeValidate, sdk.SideHandler))
			default: // genesis, init, private: not even its author's
				b.wantRetry(b.want(err, sdk.HandlerFailed, sdk.HandlerCodeNotFound, sdk.SideNode, sdk.DeliveredNo))
			}
		}
		if _, err := b.get(b.bob, r.Header.Entry, false); !sdk.IsNotFound(err) {
			b.Errorf("by the entry's hash: %v", err)
		}
	}
}

// get asks again until what was published is there, and once where it was not.
func (b *bench) get(p Peer, record sdk.Hash, published bool) (Result, error) {
	for {
		r, err := b.try(b.ctx, p, Step{Op: "get", Record: record})
		if !published || b.ctx.Err() != nil || !sdk.IsNotFound(err) && !errors.Is(err, sdk.Unreachable) {
			return r, err
		}
		select {
		case <-b.ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}
