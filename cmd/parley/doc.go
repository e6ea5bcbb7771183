// Command parley is a node for agent-centric peer-to-peer applications, and the
// tool to operate one.
//
//	main.go, root.go     the program: its commands, its exit
//	exit.go              exit codes, and errors as one line or as JSON
//	settings.go          flags, then PARLEY_… variables, then parley.toml
//	settingsfile.go      parley.toml
//	run.go               parley run: the node itself
//	init.go, call.go, peers.go, status.go, chain.go, version.go
//	                     the other commands; they reach the node through
//	                     node/control on the socket in its data directory
//	print.go, clean.go   tables for people, JSON for programs, and nothing that
//	                     another agent wrote reaches a terminal unescaped
//	internal/demo        parley demo
//
// docs/cli.md describes it for users.
package main
