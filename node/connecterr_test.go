package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

// Who could not be looked for is not unknown.
func TestLookupErrors(t *testing.T) {
	t.Parallel()
	to := newIdentity(testPrivateKey(5)).agent
	for _, test := range []struct {
		err  error
		down bool
		code sdk.Code
		says string
	}{
		{dht.ErrNotFound, false, sdk.UnknownAgent, "7 were asked"},
		{dht.ErrNoAnswer, false, sdk.UnknownAgent, "none answered"},
		{&dht.SilentError{Should: 16, Answered: 3}, false, sdk.UnknownAgent, "not certain: of some 16 nodes that could know its address only 3 answered"},
		{dht.ErrNoAnswer, true, sdk.UnknownAgent, "this machine's network"},
		{dht.ErrBusy, true, sdk.Busy, "too much at once"},
		{&dht.WithdrawnError{Seq: 3, Since: time.Unix(1e9, 0)}, false, sdk.Unreachable, "gone offline"},
	} {
		e := lookupError(to, fmt.Errorf("dht: lookup: %w", test.err), 7, time.Second, test.down)
		if !errors.Is(e, test.code) || e.Delivered != sdk.DeliveredNo || !e.Retry || !strings.Contains(e.Text, test.says) {
			t.Errorf("%v: %v", test.err, e)
		}
		if (e.Limit != nil) != (test.code == sdk.Busy) || e.Limit != nil && (e.Limit.RetryAfter == 0 || e.Limit.Value <= e.Limit.Max) {
			t.Errorf("%v: limit %+v", test.err, e.Limit)
		}
	}
}
