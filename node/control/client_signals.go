package control

import (
	"context"
	"math"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// Watch implements Node. An error of tell is returned as it is.
func (c *Client) Watch(ctx context.Context, q WatchQuery, tell func(Signal) error) error {
	const what = "watch"
	req := &controlpb.WatchRequest{Dna: q.DNA, Buffer: int32(min(max(q.Buffer, math.MinInt32), math.MaxInt32))}
	return receive(ctx, what, req, c.rpc.Watch, func(m *controlpb.WatchResponse) error {
		s, err := signalFromWire(m)
		if err != nil {
			return badAnswer(what, err)
		}
		return tell(s)
	})
}

// Online implements Node.
func (c *Client) Online(ctx context.Context, agent sdk.AgentID) (sdk.Presence, error) {
	m, err := ask(ctx, "online", &controlpb.OnlineRequest{Agent: agent.String()}, c.rpc.Online)
	if err != nil {
		return sdk.Presence{}, err
	}
	p, err := presenceFromWire(m)
	if err != nil {
		return sdk.Presence{}, badAnswer("online", err)
	}
	return p, nil
}
