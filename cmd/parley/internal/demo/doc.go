// Package demo is parley demo: a silent auction among five real node processes.
//
//	demo.go     Run: the steps in their order
//	build.go    the auction handler, from source
//	process.go  one node: its process, its log, its client
//	auction.go  bids, and the crash in the middle of one
//	report.go   what each step prints
//
// Everything it prints was measured: times by the clock, routes and counters by
// the nodes' own control APIs, chains by reading them back.
package demo
