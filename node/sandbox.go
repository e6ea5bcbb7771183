package node

import "github.com/parley-p2p/parley/plugin"

// Sandbox says how the handlers of PluginDir are confined, and what the operator
// gives some of them beyond that. Zero values are defaults: docs/handlers.md.
type Sandbox struct {
	// Mode is "auto", "strict" or "off" (setting handler-sandbox).
	Mode string
	// Memory is in bytes (handler-memory).
	Memory int64
	// Processes and OpenFiles are handler-processes and handler-open-files.
	Processes, OpenFiles int
	// Grants are by file of PluginDir, in the words of sdk.Needs.
	Grants map[string][]string
}

func (s Sandbox) ofPlugin(c plugin.Config) plugin.Config {
	c.Sandbox, c.Grants = plugin.SandboxMode(s.Mode), s.Grants
	c.Memory, c.Processes, c.OpenFiles = s.Memory, s.Processes, s.OpenFiles
	return c
}
