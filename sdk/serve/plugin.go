package serve

import (
	"context"
	"log"
	"log/slog"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// servePlugin serves h to the node that started this process, and returns when
// the node ended it or is gone.
func servePlugin(h sdk.Handler, maxPayload int) int {
	logToNode()
	svc := newService(h, maxPayload)
	svc.exit = os.Exit
	stopGuard := svc.guardStart()
	defer stopGuard()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion:  handlerpb.Protocol,
			MagicCookieKey:   handlerpb.CookieKey,
			MagicCookieValue: handlerpb.CookieValue,
		},
		VersionedPlugins: map[int]goplugin.PluginSet{
			handlerpb.Protocol: {handlerpb.PluginName: &grpcPlugin{svc: svc}},
		},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, ServerOptions(maxPayload)...)...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Name: "go-plugin", Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
	return 0
}

// ServerOptions are the options of a gRPC server that offers the contract.
func ServerOptions(maxPayload int) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(handlerpb.MaxMessage(maxPayload)),
		grpc.MaxSendMsgSize(handlerpb.MaxMessage(maxPayload)),
		grpc.MaxConcurrentStreams(handlerpb.MaxStreams),
		grpc.InitialWindowSize(handlerpb.StreamWindow),
		grpc.InitialConnWindowSize(handlerpb.ConnWindow),
	}
}

// Register offers h on a gRPC server: what Main does, for servers of one's own
// (tests, other ways to start). The server needs ServerOptions.
func Register(r grpc.ServiceRegistrar, h sdk.Handler, maxPayload int) {
	handlerpb.Register(r, newService(h, maxPayload))
}

type grpcPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	svc *service
}

var _ goplugin.GRPCPlugin = (*grpcPlugin)(nil)

func (p *grpcPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	handlerpb.Register(s, p.svc)
	return nil
}

func (p *grpcPlugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil // the node has its own
}

// logToNode makes the standard loggers write lines that the node takes apart:
// JSON with hclog's keys, on the real standard error.
func logToNode() {
	h := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				a.Key = "@timestamp"
			case slog.LevelKey:
				return slog.String("@level", strings.ToLower(a.Value.String()))
			case slog.MessageKey:
				a.Key = "@message"
			}
			return a
		},
	})
	slog.SetDefault(slog.New(h))
	log.SetFlags(0)
}
