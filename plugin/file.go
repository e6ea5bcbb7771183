package plugin

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// printOf is the file's fingerprint.
func printOf(info fs.FileInfo) fingerprint {
	p := fingerprint{size: info.Size(), mtime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		p.dev, p.inode, p.ctime = uint64(st.Dev), st.Ino, time.Unix(st.Ctim.Unix())
	}
	return p
}

// beingWritten tells whether any process has the file open for writing: the
// kernel grants a read lease only if none has. Where it has no leases for such a
// file (another owner's, a network's) the answer is no, and the time without a
// change has to do.
func beingWritten(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return err == unix.EAGAIN
}
