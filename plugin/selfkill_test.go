package plugin

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// selfSignal is SIGKILL or SIGSTOP from a process to itself. The first process
// of a PID namespace takes none of its own, so there a filter ends every thread
// at its next system call, or lets it wait for an answer that never comes.
func selfSignal(sig unix.Signal) {
	if os.Getpid() != 1 {
		_ = unix.Kill(os.Getpid(), sig)
		select {} // the signal may take a moment
	}
	verdict, flags := uint32(unix.SECCOMP_RET_KILL_PROCESS), uintptr(0)
	if sig == unix.SIGSTOP {
		const tsyncESRCH = 1 << 4
		verdict, flags = unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|tsyncESRCH
	}
	f := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: verdict}}
	prog := unix.SockFprog{Len: 1, Filter: &f[0]}
	runtime.LockOSThread()
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	panic(e) // printing it is the next system call
}
