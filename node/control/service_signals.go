package control

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
)

func (s *service) Watch(ctx context.Context, r *controlpb.WatchRequest, stream *connect.ServerStream[controlpb.WatchResponse]) error {
	if err := checkName("dna", r.GetDna(), maxDNAText); err != nil {
		return errorToWire(err)
	}
	q := WatchQuery{DNA: r.GetDna(), Buffer: int(r.GetBuffer())}
	err := s.node.Watch(ctx, q, func(sig Signal) error { return stream.Send(signalToWire(&sig, r.GetJson())) })
	// Canceled: either nobody reads this, or the node stops.
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return errorToWire(err)
}

func (s *service) Online(ctx context.Context, r *controlpb.OnlineRequest) (*controlpb.OnlineResponse, error) {
	agent, err := parseAgent(r.GetAgent())
	if err != nil {
		return nil, errorToWire(err)
	}
	p, err := s.node.Online(ctx, agent)
	if err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.OnlineResponse{Online: p.Online, LastHeard: timestamp(p.LastHeard)}, nil
}
