package control

import (
	"context"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// DHTTable implements Node.
func (c *Client) DHTTable(ctx context.Context) (DHTTable, error) {
	const what = "DHT table"
	m, err := ask(ctx, what, &controlpb.DHTTableRequest{}, c.rpc.DHTTable)
	if err != nil {
		return DHTTable{}, err
	}
	t, err := dhtTableFromWire(m)
	if err != nil {
		return DHTTable{}, badAnswer(what, err)
	}
	return t, nil
}

// DHTLookup implements Node.
func (c *Client) DHTLookup(ctx context.Context, agent sdk.AgentID, o DHTSearch) (DHTLookup, error) {
	const what = "DHT lookup"
	m, err := ask(ctx, what, &controlpb.DHTLookupRequest{Agent: agent.String(), Strict: o.Strict, Hardened: o.Hardened}, c.rpc.DHTLookup)
	if err != nil {
		return DHTLookup{}, err
	}
	l, err := dhtLookupFromWire(agent, m)
	if err != nil {
		return DHTLookup{}, badAnswer(what, err)
	}
	return l, nil
}

// DHTStats implements Node.
func (c *Client) DHTStats(ctx context.Context) (DHTStats, error) {
	const what = "DHT statistics"
	m, err := ask(ctx, what, &controlpb.DHTStatsRequest{}, c.rpc.DHTStats)
	if err != nil {
		return DHTStats{}, err
	}
	s, err := dhtStatsFromWire(m)
	if err != nil {
		return DHTStats{}, badAnswer(what, err)
	}
	return s, nil
}
