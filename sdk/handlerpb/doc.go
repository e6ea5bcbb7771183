// Package handlerpb is the wire form of the contract between a node and a
// handler process: handler.proto, the code generated from it, and the
// conversion between its messages and the types of package sdk.
//
// The conversion is hand-written and validates in both directions: nothing
// that breaks a length, a range or a closed set gets past it, whichever side
// sent it. Packages plugin (the node's side) and sdk/serve (the handler's side)
// pass sdk values on and never hand a generated type to anybody.
//
// To regenerate the code run .ci/generate.
package handlerpb
