// Package sandbox starts a program with nothing but what it needs. It knows
// nothing of handlers, go-plugin or the node.
//
// [Command] makes a command that starts this very binary again, in namespaces
// of its own. There, before main, the package's init (shim_linux.go) finds the
// name [argv0], puts the other layers on itself and becomes the program by
// exec: the process id stays, and so do the descriptors. A layer that was asked
// for and can't be put on ends the process: the program never runs with less.
//
// What may be asked for is what [Probe] found to work on this machine.
package sandbox
