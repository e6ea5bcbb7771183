package plugin

import (
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

func TestCall(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	h := n.handler(t, "alpha")
	host := &testHost{}
	hash := sdk.EntryHash([]byte("text"))
	for _, c := range []struct{ function, in, out string }{
		{"echo", "hello", "hello"},
		{"echo", "", ""},
		{"send", "x", "reply to x"},
		{"commit", "text", string(hash[:])},
		{"query", "", "3"},
		{"get", "which", "which" + string(make([]byte, 27))},
		{"parallel", "", ""},
		{"setup", "", string(append(append(testAgent[:], testDNA[:]...), "props"...))},
	} {
		got, err := h.Serve(ctx, host, call(c.function, c.in))
		if err != nil || string(got) != c.out {
			t.Errorf("%s(%q) = %q, %v; want %q", c.function, c.in, got, err, c.out)
		}
	}
	got, err := h.Serve(ctx, host, &sdk.Call{Kind: sdk.CallReceive, From: sdk.AgentID{7}, Payload: []byte("bid")})
	if err != nil || string(got) != "got bid" {
		t.Errorf("receive = %q, %v", got, err)
	}
}
