package plugin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxBinary bounds a handler's binary.
const maxBinary = 1 << 30

// errUnsettled is the reason for which a file is not staged that somebody writes to.
var errUnsettled = errors.New("somebody writes to it")

// stageWhole stages a file that is complete, as scan sees it: since that was found
// out somebody may have begun to write to it again.
func stageWhole(dir, file string) (path, sum string, err error) {
	before, after := found{name: filepath.Base(file)}, found{name: filepath.Base(file)}
	if err := before.look(filepath.Dir(file)); err != nil {
		return "", "", err
	}
	if before.busy {
		return "", "", errUnsettled
	}
	path, sum, err = stage(dir, file)
	if _ = after.look(filepath.Dir(file)); after.busy || after.print != before.print {
		return "", "", errUnsettled
	}
	return path, sum, err
}

// stage copies a handler's binary to <dir>/<sha256>/plugin and gives the path
// and the hash. What runs is always the copy: the operator may do what he likes
// with the original, and what was checked is what is started.
func stage(dir, file string) (path, sum string, err error) {
	if path, sum = findCopy(dir, file); path != "" {
		return path, sum, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return "", "", fmt.Errorf("stage: %w", err)
	}
	defer in.Close()
	tmp, sum, err := copyBinary(dir, in)
	if err != nil {
		return "", "", fmt.Errorf("stage: %w", err)
	}
	defer os.Remove(tmp) // gone already if it was renamed
	home := filepath.Join(dir, sum)
	path = filepath.Join(home, "plugin")
	if err := os.Mkdir(home, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", "", fmt.Errorf("stage: %w", err)
	}
	if staged(path, sum) { // by somebody else meanwhile, who may execute it
		return path, sum, nil
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", "", fmt.Errorf("stage: %w", err)
	}
	if err := syncDir(home); err != nil {
		return "", "", fmt.Errorf("stage: %w", err)
	}
	return path, sum, nil
}

// findCopy gives the copy that a file has already and its hash; "" if it has none.
// Usually there is one after the node's first start, and reading both is cheaper
// than writing another. Only the copy is hashed, since it is what will run.
func findCopy(dir, file string) (path, sum string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", ""
	}
	for _, e := range entries {
		path = filepath.Join(dir, e.Name(), "plugin")
		if isSum(e.Name()) && sameContent(file, path) && staged(path, e.Name()) {
			return path, e.Name()
		}
	}
	return "", ""
}

// sameContent tells whether two files can be read and are alike.
func sameContent(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil || !one.Mode().IsRegular() {
		return false
	}
	two, err := os.Stat(b)
	if err != nil || !two.Mode().IsRegular() || one.Size() != two.Size() {
		return false
	}
	f, err := os.Open(a)
	if err != nil {
		return false
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false
	}
	defer g.Close()
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(f, x)
		m, _ := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if err != nil {
			return err == io.EOF || err == io.ErrUnexpectedEOF
		}
	}
}

func staged(path, sum string) bool {
	have, err := hashFile(path)
	return err == nil && have == sum
}

// copyBinary copies in to a temporary file of dir, hashing. No process may be
// forked while the copy is open for writing: the child would hold it open, and
// its exec fail with ETXTBSY (golang/go#22315). ForkLock keeps forks away.
func copyBinary(dir string, in io.Reader) (tmp, sum string, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.CreateTemp(dir, ".stage-*")
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	if err := errors.Join(fill(out, in, h), out.Close()); err != nil {
		return "", "", errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), hex.EncodeToString(h.Sum(nil)), nil
}

func fill(out *os.File, in io.Reader, h hash.Hash) error {
	n, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(in, maxBinary+1))
	if err != nil {
		return err
	}
	if n > maxBinary {
		return fmt.Errorf("more than %d bytes", maxBinary)
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Chmod(0o500)
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
