package control

import (
	"context"

	"github.com/parley-p2p/parley/node/control/controlpb"
)

func (s *service) DHTTable(ctx context.Context, _ *controlpb.DHTTableRequest) (*controlpb.DHTTableResponse, error) {
	t, err := s.node.DHTTable(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	return dhtTableToWire(&t), nil
}

func (s *service) DHTLookup(ctx context.Context, r *controlpb.DHTLookupRequest) (*controlpb.DHTLookupResponse, error) {
	agent, err := parseAgent(r.GetAgent())
	if err != nil {
		return nil, errorToWire(err)
	}
	l, err := s.node.DHTLookup(ctx, agent, DHTSearch{Strict: r.GetStrict(), Hardened: r.GetHardened()})
	if err != nil {
		return nil, errorToWire(err)
	}
	return dhtLookupToWire(&l), nil
}

func (s *service) DHTStats(ctx context.Context, _ *controlpb.DHTStatsRequest) (*controlpb.DHTStatsResponse, error) {
	st, err := s.node.DHTStats(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	return dhtStatsToWire(&st), nil
}
