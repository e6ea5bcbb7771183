package plugin

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// rollFile is what stays of a rollout from one start of the node to the next: the
// last good binary, and those in quarantine.
type rollFile struct {
	Good        string                 `json:"good"`
	Quarantined map[string]quarantined `json:"quarantined,omitempty"`
}

const maxRollFile = 1 << 20

// loadRollout reads a file's rollout. A missing one is empty; a damaged one is
// an error beside an empty one: it costs the way back, nothing else.
func loadRollout(path string) (rollout, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return rollout{}, nil
	}
	if err != nil {
		return rollout{}, err
	}
	if info.Size() > maxRollFile {
		return rollout{}, fmt.Errorf("%s has %d bytes, at most %d expected", path, info.Size(), maxRollFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return rollout{}, err
	}
	var f rollFile
	if err := json.Unmarshal(b, &f); err != nil {
		return rollout{}, fmt.Errorf("%s: %w", path, err)
	}
	r := rollout{bad: map[string]quarantined{}}
	if isSum(f.Good) {
		r.good = f.Good
	}
	for sum, q := range f.Quarantined {
		if isSum(sum) && len(r.bad) < maxQuarantined {
			r.bad[sum] = q
		}
	}
	return r, nil
}

// isSum keeps anything else out of paths.
func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

// save writes the rollout, whole or not at all.
func (r *rollout) save(path string) error {
	b, err := json.MarshalIndent(rollFile{Good: r.good, Quarantined: r.bad}, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, ".rollout-*", append(b, '\n'))
}

// replaceFile writes a file, mode 0600, whole or not at all. pattern is that of
// the name it has until then.
func replaceFile(path, pattern string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), pattern)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already if it was renamed
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
