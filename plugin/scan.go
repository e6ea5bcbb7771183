package plugin

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// found is a file of the handlers' directory. skip says why it is not started.
type found struct {
	name  string
	skip  error
	print fingerprint
	busy  bool // somebody writes to it
}

// maxFiles bounds the files of the directory that are looked at.
const maxFiles = 1024

// scan lists the directory. Subdirectories are passed over; a file that can't
// be a handler is listed with the reason.
func scan(dir string) ([]found, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	var files []found
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("plugin directory: more than %d files in %s", maxFiles, dir)
		}
		f := found{name: e.Name()}
		f.skip = f.look(dir)
		files = append(files, f)
	}
	return files, nil
}

// look takes a file's fingerprint, and says why it can't be a handler; nil if it
// may be one.
func (f *found) look(dir string) error {
	if strings.HasPrefix(f.name, ".") {
		return fmt.Errorf("its name begins with a dot")
	}
	path := filepath.Join(dir, f.name)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f.print = printOf(info)
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have become a pipe
	if err != nil {
		return err
	}
	defer file.Close()
	if f.busy = beingWritten(file); f.busy {
		return nil
	}
	if info.Size() == 0 {
		return fmt.Errorf("it is empty")
	}
	err = checkProgram(file, info.Size())
	switch {
	case err != nil:
		return err
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("it is not executable; if it is a handler: chmod +x %s", path)
	case info.Mode()&0o002 != 0:
		return fmt.Errorf("every user of this machine may change it; chmod o-w %s", path)
	}
	return nil
}

// checkProgram looks at the file's first bytes, and at whether all that an ELF
// binary says of its own length is there.
func checkProgram(f *os.File, size int64) error {
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return err
	}
	switch head := string(head[:n]); {
	case strings.HasPrefix(head, "#!"), head == "\xcf\xfa\xed\xfe", head == "\xca\xfe\xba\xbe":
		return nil
	case head != "\x7fELF":
		return fmt.Errorf("it is no program: neither an ELF or Mach-O binary nor a script with #! at its beginning")
	}
	return checkELF(f, size)
}

// sockets makes the directory for the handlers' sockets. A unix socket's path
// has at most 107 bytes, of which go-plugin's names take up to 40, so a long
// state directory can't hold it; then it is a directory of the system's, which
// a file in the state directory names for the next start to remove.
func sockets(stateDir string) (dir string, err error) {
	const longest = 107 - 40
	note := filepath.Join(stateDir, "sockets-elsewhere")
	if old, err := os.ReadFile(note); err == nil {
		removeStaleSockets(string(old))
	}
	dir = filepath.Join(stateDir, "s")
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("socket directory: %w", err)
	}
	if len(dir) <= longest {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", fmt.Errorf("socket directory: %w", err)
		}
		return dir, nil
	}
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(base)+len("/parley-0123456789") > longest {
			continue
		}
		dir, err = os.MkdirTemp(base, "parley-")
		if err == nil {
			if err := os.WriteFile(note, []byte(dir), fs.FileMode(0o600)); err != nil {
				return "", fmt.Errorf("socket directory: %w", err)
			}
			return dir, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("no temporary directory has a path short enough for a socket")
	}
	return "", fmt.Errorf("socket directory: %w", err)
}

// removeStaleSockets removes the directory of a node that was killed. The note
// is the node's own file, but only a directory that sockets may have made goes.
func removeStaleSockets(dir string) {
	info, err := os.Lstat(dir)
	if err == nil && info.IsDir() && info.Mode().Perm() == 0o700 && strings.HasPrefix(filepath.Base(dir), "parley-") {
		_ = os.RemoveAll(dir)
	}
}
