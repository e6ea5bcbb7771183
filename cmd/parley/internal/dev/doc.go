// Package dev is parley dev: a private network of nodes for one DNA, which is
// built anew and swapped whenever its source is saved.
//
//	dev.go      Run: what it takes, what it makes and removes
//	session.go  the loop: saves, builds, what handlers do, lines of stdin
//	build.go    go list, go build, --describe
//	exec.go     programs that end with all they have started
//	source.go   which files a DNA is made of (pure)
//	watch.go    when one of them changes
//	network.go  the nodes
//	input.go    what a line of stdin asks for (pure)
//	call.go     calls that were asked for
//	report.go   what is told of nodes and swaps
//	output.go   one queue for all that is printed
//
//	save -> watch -> build -> rename into the plugin directory -> nodes swap -> events -> told
package dev
