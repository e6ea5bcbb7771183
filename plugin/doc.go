// Package plugin runs handler processes: it finds, stages, starts, watches,
// restarts and ends them, and gives the node a Handler for each that it can't
// tell from one of its own process. It knows nothing of the wire or the DHT.
//
// Start with Manager: New checks the settings, Run does everything, Ready and
// Status tell how it goes. For each file of the directory a supervisor
// (supervise.go) goes through
//
//	stage -> start -> introduce (Describe, Config.Attach, Setup) -> watch -> ... -> drain
//
// and keeps one process (process.go) running: go-plugin's handshake and TLS,
// our own runner (runner.go), one spawning thread (spawner.go), outputs that
// can't hurt (output.go, logs.go), health probes, and a kill that always ends.
// When a process dies, restartPolicy (policy.go) says when the next one starts.
//
// A call goes through Handler.Serve, or through Handler.Start, which does not
// wait (handler.go): limits (gate.go), the process that takes calls now, its call
// socket (stream.go), and there as frames until the result (call.go); what it
// asks of its node meanwhile is callback.go.
//
// Who owns what: Run waits for each supervisor, and the spawner, which ends
// after the last process; a supervisor for its process; a process for its
// Control stream, its health probes and the two goroutines of its call socket,
// which end with the socket and wait for the workers; a runner for its readers; a
// call for its callbacks. docs/handlers.md is the contract that handlers in any language
// keep, with the numbers of the policy and the states as a picture.
package plugin
