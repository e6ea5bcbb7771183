package node

import "github.com/parley-p2p/parley/plugin"

// Sandbox says how the handlers of PluginDir are confined, and what the operator
// gives some of them beyond that. Zero values are defaults: docs/handlers.md.
type Sandbox struct {
	// Mode is "auto", "strict" or "off" (setting handler-sandbox).
	Mode string
	// Memory is in bytes (handler-memory).
	Memory int
	// Processes and OpenFiles are handler-processes and handler-open-files.
	Processes, OpenFiles int
	// Grants are by file of PluginDir, in the words of sdk.Needs.
	Grants map[string][]string
}

func (s Sandbox) ofPlugin(c plugin.Config) plugin.Config {
	c.Sandbox, c.Grants = plugin.SandboxMode(s.Mode), s.Grants
	c.Memory, c.Processes, c.OpenFiles = int64(s.Memory), s.Processes, s.OpenFiles
	return c
}

// DefaultSandbox is what the zeros of Sandbox mean.
func DefaultSandbox() Sandbox {
	return Sandbox{Mode: string(plugin.SandboxAuto), Memory: plugin.DefaultMemory, Processes: plugin.DefaultProcesses, OpenFiles: plugin.DefaultOpenFiles}
}

// Harden keeps other processes of the same user, handlers above all, from looking
// into this one. It is for a program that is a node and nothing else: such a
// program leaves no core dump, and no debugger can be attached to it.
func Harden() error { return plugin.Harden() }
