package sdk

import (
	"context"
	"log/slog"
)

// hostLog is a slog.Handler that writes to Host.Log. The node decides which
// levels it keeps.
type hostLog struct {
	c      *Context
	args   []any  // attributes of With, their groups in the keys
	prefix string // open groups, "a.b."
}

func (h *hostLog) Enabled(context.Context, slog.Level) bool { return !h.c.call.ended.Load() }

func (h *hostLog) Handle(ctx context.Context, r slog.Record) error {
	args := h.args[:len(h.args):len(h.args)]
	r.Attrs(func(a slog.Attr) bool {
		args = appendAttr(args, h.prefix, a)
		return true
	})
	h.c.call.host.Log(h.c, r.Level, r.Message, args...)
	return nil
}

func (h *hostLog) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	n.args = h.args[:len(h.args):len(h.args)]
	for _, a := range as {
		n.args = appendAttr(n.args, h.prefix, a)
	}
	return &n
}

func (h *hostLog) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	n := *h
	n.prefix += name + "."
	return &n
}

// appendAttr flattens groups into dotted keys, since Host.Log takes pairs.
func appendAttr(args []any, prefix string, a slog.Attr) []any {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Equal(slog.Attr{}) {
			return args
		}
		return append(args, prefix+a.Key, v.Any())
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, g := range v.Group() {
		args = appendAttr(args, prefix, g)
	}
	return args
}
