package control

import (
	"context"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
)

// receive runs one request whose answer is a stream, until each fails.
func receive[Req, Res any](ctx context.Context, what string, req *Req,
	do func(context.Context, *Req) (*connect.ServerStreamForClient[Res], error), each func(*Res) error) error {
	if err := ctx.Err(); err != nil {
		return notSent(err)
	}
	late, cancel := withGrace(ctx)
	defer cancel()
	stream, err := do(late, req)
	if err != nil {
		return errorFromWire(ctx, what, err)
	}
	for stream.Receive() {
		if err := each(stream.Msg()); err != nil {
			cancel()
			stream.Close()
			return err
		}
	}
	if err := stream.Err(); err != nil {
		stream.Close()
		return errorFromWire(ctx, what, err)
	}
	return stream.Close()
}

// Plugins implements Node.
func (c *Client) Plugins(ctx context.Context) ([]PluginStatus, error) {
	const what = "list plugins"
	m, err := ask(ctx, what, &controlpb.PluginsRequest{}, c.rpc.Plugins)
	if err != nil {
		return nil, err
	}
	var out []PluginStatus
	for _, w := range m.GetPlugins() {
		p, err := pluginFromWire(w)
		if err != nil {
			return nil, badAnswer(what, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// RestartPlugin implements Node.
func (c *Client) RestartPlugin(ctx context.Context, name string) error {
	_, err := ask(ctx, "restart plugin", &controlpb.RestartPluginRequest{Name: name}, c.rpc.RestartPlugin)
	return err
}

// PluginEvents implements Node. An error of tell is returned as it is.
func (c *Client) PluginEvents(ctx context.Context, q EventQuery, tell func(PluginEvent) error) error {
	const what = "plugin events"
	req := &controlpb.PluginEventsRequest{After: q.After, Follow: q.Follow}
	return receive(ctx, what, req, c.rpc.PluginEvents, func(m *controlpb.PluginEventsResponse) error {
		e, err := eventFromWire(m)
		if err != nil {
			return badAnswer(what, err)
		}
		return tell(e)
	})
}
