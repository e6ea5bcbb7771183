package control

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
)

// maxPluginName holds a file's name, a DNA's too.
const maxPluginName = 255

func (s *service) Plugins(ctx context.Context, _ *controlpb.PluginsRequest) (*controlpb.PluginsResponse, error) {
	list, err := s.node.Plugins(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.PluginsResponse{}
	for i := range list {
		out.Plugins = append(out.Plugins, pluginToWire(&list[i]))
	}
	return out, nil
}

func (s *service) RestartPlugin(ctx context.Context, r *controlpb.RestartPluginRequest) (*controlpb.RestartPluginResponse, error) {
	if err := checkName("name", r.GetName(), maxPluginName); err != nil {
		return nil, errorToWire(err)
	}
	if err := s.node.RestartPlugin(ctx, r.GetName()); err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.RestartPluginResponse{}, nil
}

func (s *service) PluginEvents(ctx context.Context, r *controlpb.PluginEventsRequest, stream *connect.ServerStream[controlpb.PluginEventsResponse]) error {
	q := EventQuery{After: r.GetAfter(), Follow: r.GetFollow()}
	err := s.node.PluginEvents(ctx, q, func(e PluginEvent) error { return stream.Send(eventToWire(&e)) })
	// Canceled: either nobody reads this, or the node stops.
	if err == nil || q.Follow && errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return errorToWire(err)
}
