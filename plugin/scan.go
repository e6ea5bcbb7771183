package plugin

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// found is a file of the handlers' directory. skip says why it is not started.
type found struct {
	name string
	skip error
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
		files = append(files, found{e.Name(), candidate(dir, e.Name())})
	}
	return files, nil
}

// candidate says why a file can't be a handler; nil if it may be one.
func candidate(dir, name string) error {
	if strings.HasPrefix(name, ".") {
		return fmt.Errorf("its name begins with a dot")
	}
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	case info.Size() == 0:
		return fmt.Errorf("it is empty")
	}
	program, err := isProgram(path)
	switch {
	case err != nil:
		return err
	case !program:
		return fmt.Errorf("it is no program: neither an ELF or Mach-O binary nor a script with #! at its beginning")
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("it is not executable; if it is a handler: chmod +x %s", path)
	case info.Mode()&0o002 != 0:
		return fmt.Errorf("every user of this machine may change it; chmod o-w %s", path)
	}
	return nil
}

// isProgram looks at the first bytes.
func isProgram(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		return n >= 2 && string(head[:2]) == "#!", nil
	}
	if err != nil {
		return false, err
	}
	switch string(head) {
	case "\x7fELF", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe":
		return true, nil
	}
	return string(head[:2]) == "#!", nil
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
