package plugin

import (
	"fmt"
	"strings"

	"github.com/parley-p2p/parley/plugin/internal/sandbox"
)

// portable are the layers that every process gets, wherever it runs.
var portable = []Layer{
	{"process-group", LayerOn, "a session of its own, killed as a whole; no terminal"},
	{"dies-with-node", LayerOn, "SIGKILL when the node ends"},
	{"environment", LayerOn, "its own variables only"},
	{"stdin", LayerOn, "/dev/null; four open files in all"},
	{"directory", LayerOn, "working directory of its own, mode 0700"},
}

// what says what a layer means to the reader of the status.
var what = map[sandbox.Layer]string{
	sandbox.User:         "no rights over anything of another user's",
	sandbox.Net:          "no network",
	sandbox.IPC:          "no System V IPC with others",
	sandbox.PID:          "sees and signals only itself; its children end with it",
	sandbox.Capabilities: "none",
	sandbox.NoNewPrivs:   "setuid programs give it nothing",
	sandbox.Files:        "its directory, its socket, the system's programs and libraries",
	sandbox.Ports:        "no TCP",
	sandbox.Scope:        "no signals and no abstract sockets to the outside",
	sandbox.Calls:        "connects to nobody; no tracing, mounts, namespaces, keys, io_uring",
}

// layers tells what stands around the handler of a file.
func (c *confiner) layers(file string) []Layer {
	out := append([]Layer{}, portable...)
	if c.cfg.Sandbox == SandboxOff {
		for _, l := range sandbox.All {
			out = append(out, Layer{string(l), LayerOff, "setting handler-sandbox"})
		}
		return append(out, Layer{"memory", LayerOff, "setting handler-sandbox"}, Layer{"cgroup", LayerOff, "setting handler-sandbox"})
	}
	g := c.grant(file)
	for _, r := range c.kernel.Results {
		l := Layer{Name: string(r.Layer), State: LayerOn, Detail: join(what[r.Layer], r.Detail)}
		if r.Layer == sandbox.Limits {
			l.Detail = join(fmt.Sprintf("%d open files, %d processes, no core dump", c.cfg.OpenFiles, c.cfg.Processes), r.Detail)
		}
		switch {
		case !r.On:
			l.State, l.Detail = LayerOff, r.Detail
		case g.network && (r.Layer == sandbox.Net || r.Layer == sandbox.Ports):
			l.State, l.Detail = LayerGranted, "network"
		case g.network && r.Layer == sandbox.Calls:
			l.Detail = "no tracing, mounts, namespaces, keys, io_uring; network is granted"
		case r.Layer == sandbox.Files:
			l.Detail += granted("read", g.read) + granted("write", g.write)
		}
		out = append(out, l)
	}
	out = append(out, Layer{"memory", LayerOn, fmt.Sprintf("%d MiB: GOMEMLIMIT, and the node kills what exceeds it", g.memory>>20)})
	if c.groups == nil {
		return append(out, Layer{"cgroup", LayerOff, c.noCG.Error()})
	}
	return append(out, Layer{"cgroup", LayerOn, fmt.Sprintf("%d MiB, %d processes, half the node's share of the processors", g.memory>>20, c.cfg.Processes)})
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " (" + b + ")"
}

func granted(how string, paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	return "; granted to " + how + ": " + strings.Join(paths, ", ")
}
