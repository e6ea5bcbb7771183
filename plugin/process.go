package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// launch is what a process is started from.
type launch struct {
	path       string // staged copy
	sum        string // its SHA-256
	name       string // argv[0]: what ps shows
	workDir    string
	socketDir  string // of all handlers; go-plugin makes one of its own in it
	env        []string
	maxPayload int
	timeout    time.Duration
	probeEvery time.Duration
	stuckAfter time.Duration
	spawn      *spawner
	confine    *confiner
	out        *outputs
}

// process is one generation: one process of one binary.
type process struct {
	client  *goplugin.Client
	run     *procRunner
	out     *outputs
	pb      *handlerpb.Client
	health  grpc_health_v1.HealthClient
	stream  *callStream
	started time.Time
	// calls counts the calls that hold this process. Handler.process adds one
	// under the lock under which another process would take its place, so that a
	// process that was replaced is free for good when calls is drained.
	calls gate

	probeEvery time.Duration

	// stuck is closed when calls have gone on for StuckAfter since their callers
	// gave up: the process is worth replacing.
	stuck      chan struct{}
	stuckAfter time.Duration

	// ctx is the life of the process's streams. It ends, with a cause, when the
	// process is to be used no more.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // Control, the call stream and health
}

// start starts a process, shakes hands and opens Control. On an error nothing
// is left of it.
func start(ctx context.Context, l launch) (p *process, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.timeout,
		fmt.Errorf("it did not answer within %s (setting handler-start-timeout)", l.timeout))
	defer cancel()
	p = &process{out: l.out, run: newProcRunner(l.spawn, l.out), started: time.Now(), probeEvery: l.probeEvery,
		calls: gate{max: math.MaxInt}, stuck: make(chan struct{}), stuckAfter: l.stuckAfter}
	p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	captured := &capture{}
	p.client = goplugin.NewClient(p.clientConfig(l, captured))
	defer func() {
		if err != nil {
			why := context.Cause(ctx)
			p.kill(err)
			err = p.startError(why, err)
			p = nil
		}
	}()
	// Start, Client and Dispense take no context: killing the process ends them.
	stop := context.AfterFunc(ctx, func() { p.run.killFor(context.Cause(ctx)) })
	defer stop()
	protocol, err := p.client.Client()
	if err != nil {
		return p, err
	}
	if _, err := protocol.Dispense(handlerpb.PluginName); err != nil {
		return p, err
	}
	p.pb = handlerpb.NewClient(captured.conn)
	p.health = grpc_health_v1.NewHealthClient(captured.conn)
	if err := p.probe(ctx); err != nil {
		return p, err
	}
	calls := p.run.takeCalls()
	if calls == nil {
		return p, errors.New("the process has ended")
	}
	p.serveCalls(calls, l.maxPayload)
	p.wg.Go(p.control)
	p.wg.Go(p.watch)
	return p, nil
}

func (p *process) clientConfig(l launch, captured *capture) *goplugin.ClientConfig {
	return &goplugin.ClientConfig{
		HandshakeConfig: goplugin.HandshakeConfig{
			ProtocolVersion:  handlerpb.Protocol,
			MagicCookieKey:   handlerpb.CookieKey,
			MagicCookieValue: handlerpb.CookieValue,
		},
		VersionedPlugins: map[int]goplugin.PluginSet{handlerpb.Protocol: {handlerpb.PluginName: captured}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     l.timeout + time.Minute, // ours ends first, and says so better
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: l.socketDir},
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       l.out.sync,
		SyncStderr:       l.out.sync,
		Stderr:           io.Discard,
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handlerpb.MaxControl)),
			grpc.WithIdleTimeout(0),
			grpc.WithDisableRetry(),
		},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (runner.Runner, error) {
			c, err := l.confine.command(l, socketDir, append(handlerEnv(l), spec.Env...))
			if err != nil {
				return nil, err
			}
			p.run.prepare(c, socketDir)
			return p.run, nil
		},
	}
}

// handlerEnv is all that a handler sees of the environment, beside go-plugin's
// own variables. Nothing of the node's is handed on but the time zone.
func handlerEnv(l launch) []string {
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"LANG=C.UTF-8",
		"HOME=" + l.workDir,
		"TMPDIR=" + l.workDir,
		handlerpb.EnvMaxPayload + "=" + strconv.Itoa(l.maxPayload),
	}
	if tz, ok := os.LookupEnv("TZ"); ok {
		env = append(env, "TZ="+tz)
	}
	return append(env, l.env...)
}

// capture is the plugin whose client is the bare connection.
type capture struct {
	goplugin.NetRPCUnsupportedPlugin
	conn *grpc.ClientConn
}

var _ goplugin.GRPCPlugin = (*capture)(nil)

func (c *capture) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the node serves no plugin")
}

func (c *capture) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	c.conn = conn
	return conn, nil
}

// startError says what is to be shown of a start that failed: the deadline,
// what the process said of its end, or go-plugin's error.
func (p *process) startError(why, err error) error {
	var refusal *sdk.Error
	switch {
	case why != nil:
		return why
	case p.run.ID() == "":
		return err
	case errors.As(err, &refusal), errors.Is(err, handlerpb.ErrMalformed):
		return err
	case p.run.endedByItself():
		return fmt.Errorf("it is no handler, or failed at its start: %w", p.run.why())
	}
	if reason := p.run.killReason(); reason != nil && reason != err {
		return reason
	}
	if words := p.out.lastWords(); words != "" {
		return fmt.Errorf("%w; its last words: %s", err, words)
	}
	return err
}

// serveCalls serves conn until p's end.
func (p *process) serveCalls(conn io.ReadWriteCloser, maxPayload int) {
	p.stream = newCallStream(conn, maxPayload)
	stop := context.AfterFunc(p.ctx, func() { p.stream.fail(context.Cause(p.ctx)) })
	p.wg.Go(func() { p.stream.endCalls(p.run.exited, p.run.why) })
	p.wg.Go(func() {
		defer stop()
		p.ended(p.stream.serve())
	})
}

// control holds the Control stream open. It ends with the process.
func (p *process) control() { p.ended(p.pb.Control(p.ctx)) }

// ended sees to the end of a process that has lost a stream which lasts for its
// whole life.
func (p *process) ended(err error) {
	if p.ctx.Err() != nil {
		return
	}
	if fault := (*faultError)(nil); errors.As(err, &fault) || errors.Is(err, handlerpb.ErrMalformed) {
		p.run.killFor(fmt.Errorf("it broke the contract: %w", err))
		return
	}
	// The process is going, and may still have something to say, or is broken.
	t := time.NewTimer(exitGrace)
	defer t.Stop()
	select {
	case <-p.run.exited:
	case <-p.ctx.Done():
	case <-t.C:
		p.run.killFor(fmt.Errorf("the handler ended its %w", err))
	}
}

// watch ends the process's use when it exits, and kills it when it answers no
// health probe any more.
func (p *process) watch() {
	tick := time.NewTicker(p.probeEvery)
	defer tick.Stop()
	var misses probeCounter
	told := false
	for {
		select {
		case <-p.run.exited:
			p.cancel(p.run.why())
			return
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(p.ctx, probeTimeout)
		err := p.check(ctx)
		cancel()
		if !told && p.stream.overdue(time.Now().Add(-p.stuckAfter)) > 0 {
			told = true
			close(p.stuck)
		}
		if p.ctx.Err() == nil && misses.result(err == nil) {
			p.run.killFor(fmt.Errorf("it stood none of %d health probes: %w", probeMisses, err))
		}
	}
}

// check is a health probe and a look at the call socket: a process that does
// not take what is sent to it for as long as a probe may last is as good as dead.
func (p *process) check(ctx context.Context) error {
	if err := p.probe(ctx); err != nil {
		return err
	}
	if d := p.stream.s.Blocked(); d > probeTimeout {
		return fmt.Errorf("%w for %s", handlerpb.ErrUnread, d.Round(time.Millisecond))
	}
	return nil
}

// probe asks the health service. Not serving is as bad as no answer.
func (p *process) probe(ctx context.Context) error {
	r, err := p.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
	if err != nil {
		return fmt.Errorf("health probe: %w", err)
	}
	if s := r.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health probe: the handler says %s", s)
	}
	return nil
}

// kill ends the process and waits until nothing of it is left. The process has
// killWatchdog to go by itself.
func (p *process) kill(reason error) {
	p.cancel(reason) // breaks Control: a handler exits on that
	done := make(chan struct{})
	go func() { // ends at the latest when the watchdog has killed the process
		defer close(done)
		p.client.Kill()
	}()
	t := time.NewTimer(killWatchdog)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		p.run.killFor(reason)
		<-done
	}
	_ = p.run.Kill(context.Background())
	if p.run.ID() != "" { // it was started
		<-p.run.exited
	}
	p.wg.Wait()
}
