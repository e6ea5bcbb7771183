package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// seal gives a path of a copy of the program that nobody can change any more, and
// that has the hash which s demands: what was checked is what is started, also
// where somebody writes to the file in between. A script would have its
// interpreter run what nobody has checked.
func seal(s *Spec) (path string, err error) {
	in, err := os.Open(s.Path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	fd, err := unix.MemfdCreate("handler", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3 has no MFD_EXEC, and means it
		fd, err = unix.MemfdCreate("handler", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return "", fmt.Errorf("memory for a sealed copy: %w", err)
	}
	out := os.NewFile(uintptr(fd), "sealed copy")
	defer out.Close() // what is open for writing can't be executed
	h, head := sha256.New(), new(bytes.Buffer)
	if _, err := io.CopyN(io.MultiWriter(out, h, head), in, 4); err != nil {
		return "", err
	}
	if head.String() != "\x7fELF" {
		return "", errors.New("only ELF binaries can be pinned: a script's interpreter runs more than the script")
	}
	if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
		return "", err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != s.Sum {
		return "", fmt.Errorf("its SHA-256 is %s, and %s was checked: it was changed in between", sum, s.Sum)
	}
	if err := out.Chmod(0o500); err != nil {
		return "", err
	}
	if _, err := unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", out.Fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open the sealed copy: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", again), nil // open until the exec
}
