//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a program has no business with: other processes' memory, mounts and
// namespaces, keys, kernel and clock; and io_uring, whose requests pass this
// filter by.
var forbidden = []uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_PROCESS_MADVISE,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_OPEN_TREE,
	unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_ACCT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// Offsets in struct seccomp_data; an argument's low half comes first.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

// x32 marks the system calls of amd64's x32 ABI, which have numbers of their own.
const x32 = 0x40000000

func errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// program is a filter under construction.
type program []unix.SockFilter

func (p *program) load(offset uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (p *program) ret(verdict uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict})
}

// when runs then if the value loaded compares so with k. then must end in a
// verdict or leave the value loaded.
func (p *program) when(compare uint16, k uint32, then func(*program)) {
	var body program
	then(&body)
	if len(body) > math.MaxUint8 {
		panic("sandbox: a branch of the filter is too long")
	}
	*p = append(append(*p, unix.SockFilter{Code: unix.BPF_JMP | compare | unix.BPF_K, K: k, Jf: uint8(len(body))}), body...)
}

func (p *program) equal(k, verdict uint32) {
	p.when(unix.BPF_JEQ, k, func(p *program) { p.ret(verdict) })
}

// filter is the program for a process that may or may not use the network.
// Without it the process has Unix stream sockets, to listen on and in pairs: it
// connects to nobody, and no datagram of its has an address.
func filter(network bool) program {
	var p program
	p.load(dataArch)
	p.when(unix.BPF_JEQ, auditArch, func(*program) {})
	p[len(p)-1] = unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1}
	p.ret(unix.SECCOMP_RET_KILL_PROCESS) // a program of another architecture
	p.load(dataNr)
	if runtime.GOARCH == "amd64" {
		p.when(unix.BPF_JGE, x32, func(p *program) { p.ret(errno(unix.ENOSYS)) })
	}
	for _, nr := range forbidden {
		p.equal(nr, errno(unix.EPERM))
	}
	// clone3's flags are in memory, where a filter can't look; libraries fall back on clone.
	p.equal(unix.SYS_CLONE3, errno(unix.ENOSYS))
	p.when(unix.BPF_JEQ, unix.SYS_CLONE, func(p *program) {
		p.load(dataArgs)
		p.when(unix.BPF_JSET, unix.CLONE_NEWUSER, func(p *program) { p.ret(errno(unix.EPERM)) })
		p.ret(unix.SECCOMP_RET_ALLOW)
	})
	// Into a terminal's input, as if it were typed.
	p.when(unix.BPF_JEQ, unix.SYS_IOCTL, func(p *program) {
		p.load(dataArgs + 8)
		p.equal(unix.TIOCSTI, errno(unix.EPERM))
		p.equal(unix.TIOCLINUX, errno(unix.EPERM))
		p.ret(unix.SECCOMP_RET_ALLOW)
	})
	if network {
		p.when(unix.BPF_JEQ, unix.SYS_SOCKET, func(p *program) {
			p.load(dataArgs)
			for _, family := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK} {
				p.equal(family, unix.SECCOMP_RET_ALLOW)
			}
			p.ret(errno(unix.EACCES))
		})
	} else {
		p.equal(unix.SYS_CONNECT, errno(unix.EACCES))
		for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
			p.when(unix.BPF_JEQ, nr, streamsOnly)
		}
	}
	p.ret(unix.SECCOMP_RET_ALLOW)
	return p
}

func streamsOnly(p *program) {
	p.load(dataArgs)
	p.when(unix.BPF_JEQ, unix.AF_UNIX, func(p *program) {
		p.load(dataArgs + 8)
		*p = append(*p, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf})
		p.equal(unix.SOCK_STREAM, unix.SECCOMP_RET_ALLOW)
		p.equal(unix.SOCK_SEQPACKET, unix.SECCOMP_RET_ALLOW)
	})
	p.ret(errno(unix.EACCES))
}

// filterCalls puts the filter on the calling thread.
func filterCalls(s *Spec) error {
	p := filter(s.Network)
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	// As since Linux 5.16 in any case: the filter alone is no reason to slow the
	// program down by mitigations, which are for secrets within its own memory.
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p)
	if e != 0 {
		return fmt.Errorf("the kernel does not take the filter: %w", e)
	}
	return nil
}
