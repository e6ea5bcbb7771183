// Package agency decides who may do what, for nodes and for a test's network
// alike: which grant lets a call of another agent in (Book), which claim a call
// is made with (Claims), whom a node hears at all and how much of it at once
// (Policy).
//
// Everything here is a state machine: its methods take the time, do no I/O and
// start no goroutine. Its owner serializes the calls. What is refused is the
// *sdk.Error that the other agent gets, as the node sees it that refuses.
package agency
