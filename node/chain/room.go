package chain

import "os"

// room keeps blocks ahead of the file's used part written with zeros. A sync
// after a write into blocks that exist costs half of one that also has to make
// them known to the file system's journal; bbolt alone leaves holes there.
//
// It only helps: where it fails, on a full disk, bbolt grows the file itself
// and reports what goes wrong.
type room struct {
	f       *os.File // bbolt's, open for as long as the DB is
	written int64    // bytes of the file that are known to have blocks
}

// The step grows with the file, so that a small chain stays small.
const (
	minRoom = 64 << 10
	maxRoom = 4 << 20
)

func newRoom(f *os.File) (*room, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &room{f: f, written: info.Size()}, nil
}

// ensure makes room for need bytes behind the used ones. It is called with no
// write of bbolt under way, and touches only what lies beyond the file's end.
func (r *room) ensure(used, need int64) {
	need += minRoom
	if used+need <= r.written {
		return
	}
	info, err := r.f.Stat()
	if err != nil {
		return
	}
	end := used + need + min(max(used/4, minRoom), maxRoom)
	r.written = max(r.written, info.Size())
	zeros := make([]byte, min(end-r.written, 1<<20))
	for r.written < end && len(zeros) > 0 {
		n, err := r.f.WriteAt(zeros[:min(int64(len(zeros)), end-r.written)], r.written)
		r.written += int64(n)
		if err != nil {
			return
		}
	}
	_ = r.f.Sync() // a failure shows again in the commit's own sync
}
