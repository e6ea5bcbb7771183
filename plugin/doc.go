// Package plugin runs handler processes: it finds, stages, starts, watches,
// restarts and ends them, and gives the node a Handler for each that it can't
// tell from one of its own process. It knows nothing of the wire or the DHT.
//
// Start with Manager (manager.go): New checks the settings, Run does everything,
// Ready, Status and Config.Event tell how it goes. directory.go makes the handlers
// what the plugin directory holds: watch.go says when to look, scan.go what is
// there, settle.go, which is pure, what of it is complete. For each file a
// supervisor (supervise.go) owns what runs. It starts attempts, each of which goes
// through
//
//	stage -> start -> Describe -> Config.Attach, or compatible -> Setup -> warm -> Config.Ready
//
// to a generation (generation.go), decides by what becomes of them (outcome.go)
// and does what it is told (inbox.go). rollout.go, which is pure, says which binary
// is to run and which may not; restartPolicy (policy.go) when it is started again.
//
// A process (process.go): go-plugin's handshake and TLS, our own runner
// (runner.go), one spawning thread (spawner.go), the sandbox (sandbox.go,
// layers.go, memory.go, internal/sandbox), outputs that can't hurt (output.go,
// logs.go), health probes, and a kill that always ends.
//
// A call goes through Handler.Serve, or through Handler.Start, which does not
// wait (handler.go): limits (gate.go), the process that takes calls now, its call
// socket (stream.go), and there as frames until the result (call.go); what it
// asks of its node meanwhile is callback.go.
//
// Who owns what: Run waits for each supervisor, and the spawner, which ends
// after the last process; a
// supervisor for its attempts and generations; a process for its
// Control stream, its health probes and the two goroutines of its call socket,
// which end with the socket and wait for the workers; a runner for its readers; a
// call for its callbacks. docs/handlers.md is the contract that handlers in any language
// keep, with the numbers of the policy and the states as a picture.
package plugin
