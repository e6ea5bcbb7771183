// Package serve turns a Handler into a program that a node runs: the author's
// side of go-plugin.
//
//	func main() { serve.Main(handler) }
//
// Started by hand, the program says what it is; with --describe it prints its
// description as JSON. docs/handlers.md describes what happens on the wire.
package serve
