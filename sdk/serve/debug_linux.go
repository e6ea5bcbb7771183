package serve

import "golang.org/x/sys/unix"

// allowDebugger lets every process of this user attach, where the system would
// leave that to the node (Yama). An error is the debugger's to tell.
func allowDebugger() { _ = unix.Prctl(unix.PR_SET_PTRACER, unix.PR_SET_PTRACER_ANY, 0, 0, 0) }
