package node

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	if d := DefaultLimits(); (Limits{}).withDefaults() != d || d.validate() != nil {
		t.Errorf("the defaults: %+v, %v", d, d.validate())
	}
	some := Limits{HandlerMaxCalls: 3, ChainReplyBytes: 4, HandlerRestartWait: time.Minute}.withDefaults()
	if some.HandlerMaxCalls != 3 || some.ChainReplyBytes != 4 || some.HandlerRestartWait != time.Minute || some.HandlerMaxQueue != 1024 {
		t.Errorf("what was set was lost: %+v", some)
	}
	p, c := some.ofPlugin(plugin.Config{}), some.ofChain(chain.Options{})
	if p.MaxCalls != 3 || p.MaxQueue != 1024 || p.RestartWait != time.Minute || c.ReplyBytes != 4 || c.MaxEntries != 1024 {
		t.Errorf("the parts have %+v, %+v", p, c)
	}
	for sessions, inbound := range map[int]int{1: 1, 2: 1, 3: 2, 100: 75, DefaultMaxSessions: 12288, 1 << 20: 12288} {
		if c := some.ofTransport(transport.Config{}, sessions); c.MaxSessions != sessions || c.MaxInbound != inbound || c.MaxInboundPerNet != 256 ||
			c.MaxBackground != 256 || c.MaxBackgroundInbound != 1024 || c.BackgroundIdle != 10*time.Minute {
			t.Errorf("of %d sessions: %+v", sessions, c.Limits)
		}
	}
	bad := Limits{HandlerMaxCalls: -1, HandlerStartTimeout: -1, ChainMaxEntry: 1 << 30}
	err := Config{DataDir: "x", MaxPayload: 1, MaxSessions: 1, Limits: bad.withDefaults()}.validate()
	var config *ConfigError
	if !errors.As(err, &config) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"handler-max-calls: -1", "handler-start-timeout: -1ns", "chain-max-entry: 1073741824"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
}

// TestRequestErrorNamesSettings: the text of a transport's error holds no name
// that no operator can set.
func TestRequestErrorNamesSettings(t *testing.T) {
	t.Parallel()
	for field, setting := range map[string]string{"MaxMessage": "max-payload", "MaxRequests": "max-requests", "MaxSessions": "max-sessions", "MaxInbound": "max-inbound-sessions", "MaxQueued": ""} {
		e := requestError(&transport.RequestError{Code: transport.TooLarge, Remote: true, Limit: "bytes", Setting: field, Value: 9, Max: 5})
		if e.Code != sdk.TooLarge || e.Limit == nil || e.Limit.Setting != setting || e.Limit.Value != 9 || e.Limit.Max != 5 || strings.Contains(e.Error(), field) {
			t.Errorf("%s: %+v: %v", field, e, e)
		}
	}
}

// TestEntriesOfOneCall: the setting that the error names moves the limit.
func TestEntriesOfOneCall(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, func() *sdk.Definition {
		return sdk.Define("many", "1", sdk.Function("commit", func(c *sdk.Context, n int) (int, error) {
			for i := range n {
				if _, err := c.Commit("number", i); err != nil {
					return i, err
				}
			}
			return n, nil
		}))
	})
	const most = 1100
	w.base.Limits.ChainMaxEntries = most
	alice := w.start("alice")
	for _, n := range []int{most, most + 1} {
		payload, err := sdk.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		_, err = alice.Call(t.Context(), "commit", payload)
		if n <= most {
			if err != nil {
				t.Fatalf("%d entries: %v", n, err)
			}
			continue
		}
		e := wantError(t, err, sdk.TooLarge, sdk.DeliveredYes, true)
		if e.Limit == nil || e.Limit.Setting != "chain-max-entries" || e.Limit.Value != most+1 || e.Limit.Max != most {
			t.Errorf("got %v", e)
		}
	}
	if got := alice.apps.all()[0].chain.Len(); got != 1+most {
		t.Errorf("%d records, want %d", got, 1+most)
	}
}
