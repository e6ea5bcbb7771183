package chain

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// walFile is what the log needs of its file; tests make each step fail.
type walFile interface {
	io.WriterAt
	// Sync makes what was written durable (fdatasync where there is one).
	Sync() error
	io.Closer
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return fdatasync(f.File) }

// wal is the log that frames go to. It is owned by whoever holds Chain.writing.
type wal struct {
	f    walFile
	path string
	id   walID
	size int64 // of a half
	half int
	at   int64     // where the next frame goes, in half
	last [2]uint64 // highest number in each half
	buf  []byte
}

// maxFrame is how large a frame may be; larger plans go to the chain file at once.
func (w *wal) maxFrame() int64 { return w.size / 4 }

// turn goes on in the other half if a frame of n bytes does not fit into this
// one. It fails where the chain file lacks what the other half holds.
func (w *wal) turn(n int64, stored uint64) bool {
	if w.at+n <= w.size {
		return true
	}
	other := 1 - w.half
	if w.last[other] > stored {
		return false
	}
	w.half, w.at = other, 0
	return true
}

// errUnsyncedWAL is wrapped where a frame was written and its sync failed.
var errUnsyncedWAL = errors.New("sync")

// append makes a frame durable, for which turn has made room.
func (w *wal) append(frame []byte, number uint64) error {
	if _, err := w.f.WriteAt(frame, walHeadLen+int64(w.half)*w.size+w.at); err != nil {
		return err // a frame that is not whole is none: the next one goes over it
	}
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errUnsyncedWAL, err)
	}
	w.at += int64(len(frame))
	w.last[w.half] = number
	return nil
}

// createWAL makes a log with blocks for all that it will hold: a sync after a
// write into blocks that exist costs half of one that also has to make them
// known to the file system. When it returns the file and its name are durable.
func createWAL(path string, half int64, wrap func(walFile) walFile) (w *wal, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	w = &wal{f: wrap(osFile{file}), path: path, size: half}
	rand.Read(w.id[:])
	if err = w.fill(); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, w.f.Close(), os.Remove(path))
	}
	return w, nil
}

// fill writes a new log's head and zeros for the rest.
func (w *wal) fill() error {
	if _, err := w.f.WriteAt(appendWALHead(nil, w.id, w.size), 0); err != nil {
		return err
	}
	zeros := make([]byte, min(w.size, 256<<10))
	for at := int64(0); at < 2*w.size; at += int64(len(zeros)) {
		zeros = zeros[:min(int64(len(zeros)), 2*w.size-at)]
		if _, err := w.f.WriteAt(zeros, walHeadLen+at); err != nil {
			return err
		}
	}
	return w.f.Sync()
}

// readWAL reads a log that a node left open when it ended.
func readWAL(path string) (id walID, halves [2][]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return id, halves, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return id, halves, err
	}
	if err := checkMode(path, info); err != nil {
		return id, halves, err
	}
	head := make([]byte, walHeadLen)
	if _, err := io.ReadFull(f, head); err != nil {
		return id, halves, fmt.Errorf("%w: its head can't be read: %w", errWALDamaged, err)
	}
	id, half, err := parseWALHead(head)
	if err != nil {
		return id, halves, fmt.Errorf("%w: %w", errWALDamaged, err)
	}
	if info.Size() != walHeadLen+2*half {
		return id, halves, fmt.Errorf("%w: it has %d bytes, %d expected", errWALDamaged, info.Size(), walHeadLen+2*half)
	}
	for i := range halves {
		halves[i] = make([]byte, half)
		if _, err := io.ReadFull(f, halves[i]); err != nil {
			return id, halves, fmt.Errorf("%w: it can't be read: %w", errWALDamaged, err)
		}
	}
	return id, halves, nil
}

// errWALDamaged tells what is wrong with a log from what is wrong around it.
var errWALDamaged = errors.New("it is not what was written")

// resume opens a log to go on behind what was read of it. Whoever was killed may
// have written the last of that and not synced it, and it is about to be shown.
func resume(path string, id walID, half int64, s *scanned, wrap func(walFile) walFile) (*wal, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	w := &wal{f: wrap(osFile{f}), path: path, id: id, size: half, half: s.half, at: s.end, last: s.last}
	if len(s.frames) > 0 {
		if err := w.f.Sync(); err != nil {
			return nil, errors.Join(err, w.f.Close())
		}
	}
	return w, nil
}

// removeWAL removes a log that holds nothing that the chain file lacks.
func removeWAL(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
