package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// Handler is the handler of one DNA, whichever process implements it now. It
// is what the node calls; its methods may be used concurrently.
type Handler struct {
	cfg  *Config
	gate gate

	calls atomic.Uint64

	mu        sync.Mutex
	file      string
	desc      sdk.Description
	functions map[string]bool
	state     State
	since     time.Time
	current   *process      // takes new calls; nil while there is none
	nextStart time.Time     // in StateBackoff
	changed   chan struct{} // closed at each change of state, and replaced
	restarts  int
	lastErr   error
	rolls     rolls
}

func newHandler(file string, cfg *Config) *Handler {
	return &Handler{file: file, cfg: cfg, gate: gate{max: cfg.MaxCalls, queue: cfg.MaxQueue},
		state: StateStarting, since: time.Now(), changed: make(chan struct{})}
}

// Description is what the handler said of itself.
func (h *Handler) Description() sdk.Description {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.desc
}

// File is the name of the binary's file in Config.Dir.
func (h *Handler) File() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file
}

func (h *Handler) rename(file string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.file = file
}

// waitsFor tells whether h is not up only because other is.
func (h *Handler) waitsFor(other *Handler) bool {
	dna := other.Description().Name
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rolls.taken && h.desc.Name == dna
}

// mayWaitFor tells whether it is not known yet whether h waits for other.
func (h *Handler) mayWaitFor(other *Handler) bool {
	dna := other.Description().Name
	h.mu.Lock()
	defer h.mu.Unlock()
	tried := h.state == StateStarting && h.rolls.refused == nil || h.rolls.trying != ""
	return tried && h.rolls.generation == 0 && dna != "" && (h.desc.Name == "" || h.desc.Name == dna)
}

func (h *Handler) stateNow() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// set changes the state. p takes the calls from now on; err is kept if not nil.
func (h *Handler) set(s State, p *process, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state, h.since, h.current = s, time.Now(), p
	if err != nil {
		h.lastErr = err
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Handler) describe(d sdk.Description) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.desc, h.functions = d, make(map[string]bool, len(d.Functions))
	for _, f := range d.Functions {
		h.functions[f] = true
	}
}

// activate lets g's process take the calls from now on.
func (h *Handler) activate(g *generation) {
	h.describe(g.desc)
	h.mu.Lock()
	h.rolls.sum = g.sum
	h.rolls.generation++
	h.mu.Unlock()
	h.set(StateRunning, g.p, nil)
}

// Serve runs one call in the handler's process, as sdk.Handler's Serve does.
// Every error is a *sdk.Error.
func (h *Handler) Serve(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
	if n := size(call); n > h.cfg.MaxPayload {
		return nil, tooLarge("the payload", n, h.cfg.MaxPayload, sdk.SideNode, sdk.DeliveredNo)
	}
	if err := h.knows(call); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctxError(ctx, sdk.DeliveredNo)
	}
	// A running call may wait for a validate: that waits for no call. The node
	// bounds how many there are.
	if call.Kind != sdk.CallValidate {
		full, err := h.gate.enter(ctx)
		switch {
		case full:
			return nil, h.busy()
		case err != nil:
			return nil, ctxError(ctx, sdk.DeliveredNo)
		}
		defer h.gate.leave()
	}
	defer h.calls.Add(1)
	// A call that was not sent is tried again on the next process; one that was
	// sent never is.
	for {
		p, err := h.process(ctx)
		if err != nil {
			return nil, err
		}
		reply, err := p.callWait(ctx, host, call, h.cfg.MaxPayload)
		p.calls.leave()
		if !errors.Is(err, errNotSent) {
			return reply, err
		}
		h.lost(ctx, p)
	}
}

// size is what a call carries, in bytes.
func size(call *sdk.Call) int {
	n := len(call.Payload)
	for i := range call.Records {
		n += len(call.Records[i].Content)
	}
	return n
}

// Start begins a call whose payload is small, and tells out what it has come to;
// or it returns false, and has done nothing, where Serve would wait or fail at
// once. It does not block. ctx has OnEnd, which tells of its end.
func (h *Handler) Start(ctx context.Context, host sdk.Host, call *sdk.Call, out Outcome) bool {
	end, ok := ctx.(ender)
	if !ok || len(call.Payload) > handlerpb.SmallFrame/2 || len(call.Records) > 0 || h.knows(call) != nil || !h.gate.try() {
		return false
	}
	h.mu.Lock()
	p := h.current
	if p != nil {
		_, _ = p.calls.enter(ctx) // without a limit it neither waits nor fails
	}
	h.mu.Unlock()
	if p == nil {
		h.gate.leave()
		return false
	}
	r := &running{p: p, s: p.stream, h: h, ctx: ctx, host: host, call: call, maxPayload: h.cfg.MaxPayload, out: out}
	if !p.callStart(r, end) {
		p.calls.leave()
		h.gate.leave()
		return false
	}
	return true
}

// ended tells what a call has come to that Start began.
func (h *Handler) ended(r *running) {
	r.p.calls.leave()
	if errors.Is(r.err, errNotSent) {
		// Another process may take it. Whoever waits for the outcome waits for
		// this goroutine.
		h.gate.leave()
		go func() { r.out.Done(h.Serve(r.ctx, r.host, r.call)) }()
		return
	}
	h.gate.leave()
	h.calls.Add(1)
	r.out.Done(r.reply, r.err)
}

// knows tells whether the handler has an entry point for call.
func (h *Handler) knows(call *sdk.Call) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := ""
	switch {
	case call.Kind == sdk.CallReceive && !h.desc.Receives:
		text = fmt.Sprintf("the handler of DNA %q receives no messages", h.desc.Name)
	case call.Kind == sdk.CallFunction && !h.functions[call.Function]:
		text = fmt.Sprintf("the handler of DNA %q has no function %q; it has %s", h.desc.Name, call.Function, some(h.desc.Functions))
	case call.Kind == sdk.CallNotified && !h.desc.Notified:
		text = fmt.Sprintf("the handler of DNA %q takes no notifications", h.desc.Name)
	case call.Kind == sdk.CallInit && !h.desc.Init, call.Kind == sdk.CallValidate && !h.desc.Validate,
		call.Kind == sdk.CallPostCommit && !h.desc.PostCommit:
		text = fmt.Sprintf("the handler of DNA %q takes no calls of kind %d", h.desc.Name, call.Kind)
	default:
		return nil
	}
	return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: text}
}

func some(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		return fmt.Sprintf("%q and %d more", names[:most], len(names)-most)
	}
	return fmt.Sprintf("%q", names)
}

// busyRetry is when a caller may try again that found the queue full: the
// time that a call may take is not known.
const busyRetry = 100 * time.Millisecond

func (h *Handler) busy() error {
	running, waiting := h.gate.load()
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: fmt.Sprintf("the handler runs %d calls and %d wait (settings handler-max-calls, handler-max-queue)", running, waiting),
		Limit: &sdk.Limit{Name: "calls waiting for the handler", Setting: "handler-max-queue",
			Value: uint64(waiting) + 1, Max: uint64(h.cfg.MaxQueue), RetryAfter: busyRetry}}
}

// process gives the process that takes calls, which the caller holds until
// calls.leave. Where there is none it waits, for RestartWait at most.
func (h *Handler) process(ctx context.Context) (*process, error) {
	var timeout <-chan time.Time
	for {
		h.mu.Lock()
		p, changed := h.current, h.changed
		if p != nil {
			_, _ = p.calls.enter(ctx) // without a limit it neither waits nor fails
			h.mu.Unlock()
			return p, nil
		}
		gone := h.goneLocked()
		h.mu.Unlock()
		if gone != nil {
			return nil, gone
		}
		if timeout == nil {
			t := time.NewTimer(h.cfg.RestartWait)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctxError(ctx, sdk.DeliveredNo)
		case <-timeout:
			return nil, h.restarting()
		}
	}
}

// goneLocked is the error of a handler that will not come back; nil where it may.
func (h *Handler) goneLocked() error {
	e := &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo}
	switch h.state {
	case StateFailed:
		e.Text = fmt.Sprintf("the handler of DNA %q died %d times within %s and is not started again until the node is; the last time: %v",
			h.desc.Name, crashLoopCount, crashLoopSpan, h.lastErr)
	case StateDraining, StateStopped:
		e.Text = fmt.Sprintf("the handler of DNA %q is being stopped", h.desc.Name)
	case StateRejected:
		e.Text = fmt.Sprintf("the handler of DNA %q was rejected: %v", h.desc.Name, h.lastErr)
	default:
		return nil
	}
	return e
}

func (h *Handler) restarting() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	after := max(time.Until(h.nextStart), busyRetry)
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: fmt.Sprintf("the process of DNA %q is being started again; the last time it ended so: %v", h.desc.Name, h.lastErr),
		Limit: &sdk.Limit{Name: "wait for a handler's restart", Setting: "handler-restart-wait",
			Max: uint64(h.cfg.RestartWait.Milliseconds()), RetryAfter: after.Round(time.Millisecond)}}
}

// lost waits until p, which took a call no more, is no longer the current
// process. Its supervisor sees the death at the latest after its health probes.
func (h *Handler) lost(ctx context.Context, p *process) {
	for {
		h.mu.Lock()
		still, changed := h.current == p, h.changed
		h.mu.Unlock()
		if !still {
			return
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			h.retire(p)
		case <-ctx.Done():
			return
		}
	}
}

// retire takes p off, if it is still the one.
func (h *Handler) retire(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == p {
		h.current = nil
	}
}
