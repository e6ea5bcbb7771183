package node

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/parley-p2p/parley/plugin"
)

// pinsFile is the file of the data directory that says which binaries may run
// where only pinned ones do.
const pinsFile = "plugin-pins"

// Pin is a handler's binary that may run where only pinned ones do.
type Pin struct {
	SHA256 string `json:"sha256"`
	Name   string `json:"name"` // for people
}

// Pins lists the pins of a data directory, by name. The node need not run.
func Pins(dataDir string) ([]Pin, error) {
	pins, err := plugin.ReadPins(filepath.Join(dataDir, pinsFile))
	if err != nil {
		return nil, err
	}
	return listPins(pins), nil
}

func listPins(pins plugin.Pins) []Pin {
	list := make([]Pin, 0, len(pins))
	for sum, name := range pins {
		list = append(list, Pin{SHA256: sum, Name: name})
	}
	slices.SortFunc(list, func(a, b Pin) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.SHA256, b.SHA256)) })
	return list
}

// AddPins pins binaries as they are now. All of them, or none. It gives those
// that were named.
func AddPins(dataDir string, files []string) ([]Pin, error) {
	named := plugin.Pins{}
	for _, f := range files {
		sum, err := plugin.HashFile(f)
		if err != nil {
			return nil, fmt.Errorf("pin: %w", err)
		}
		named[sum] = filepath.Base(f)
	}
	err := changePins(dataDir, func(pins plugin.Pins) error {
		maps.Copy(pins, named)
		if len(pins) > plugin.MaxPins {
			return fmt.Errorf("pin: more than %d pins: remove old ones", plugin.MaxPins)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return listPins(named), nil
}

// RemovePins takes pins away, by hash or by name: all of that name. A binary that
// runs is not ended by it. It gives those that were taken away.
func RemovePins(dataDir string, names []string) ([]Pin, error) {
	gone := plugin.Pins{}
	err := changePins(dataDir, func(pins plugin.Pins) error {
		for _, n := range names {
			found := false
			for sum, name := range pins {
				if sum == n || name == n {
					found, gone[sum] = true, name
				}
			}
			if !found {
				return fmt.Errorf("unpin: %q is neither a pinned SHA-256 nor the name of one", n)
			}
		}
		maps.DeleteFunc(pins, func(sum, _ string) bool { _, ok := gone[sum]; return ok })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return listPins(gone), nil
}

// changePins reads the pins, changes them and writes them, while nobody else does.
func changePins(dataDir string, change func(plugin.Pins) error) error {
	unlock, err := lockPins(dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(dataDir, pinsFile)
	pins, err := plugin.ReadPins(path)
	if err != nil {
		return err
	}
	if err := change(pins); err != nil {
		return err
	}
	return pins.Write(path)
}
