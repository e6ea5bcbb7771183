package serve

import (
	"context"
	"log"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
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
	if os.Getenv("GOGC") == "" {
		// A handler's live heap is a few megabytes. At Go's default of 100 it is
		// collected so often that this takes about a seventh of the processor's time.
		debug.SetGCPercent(400)
	}
	svc := newService(h, maxPayload)
	svc.exit = os.Exit
	conn, err := callSocket()
	if err != nil {
		slog.Error("no call socket from the node", "error", err)
		return 1
	}
	go svc.Calls(conn) // for the life of the process
	if os.Getenv(handlerpb.EnvDebug) != "" {
		allowDebugger() // which may hold the process for as long as it likes
	} else {
		defer svc.guardStart()()
	}
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
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(handlerpb.MaxControl))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Name: "go-plugin", Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
	return 0
}

// callSocket is the socket that the node left open for this process's calls.
// Processes that this one starts don't get it.
func callSocket() (net.Conn, error) {
	f := os.NewFile(handlerpb.CallsFD, "call socket")
	defer f.Close()
	return net.FileConn(f) // a duplicate that is closed on exec
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
