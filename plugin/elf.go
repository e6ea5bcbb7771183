package plugin

import (
	"debug/elf"
	"fmt"
	"os"
)

// checkELF makes sure that the binary is not cut short: a copy that was broken
// off would be started and die in ways that are hard to read. The table of
// sections is the last thing in the file.
func checkELF(f *os.File, size int64) (err error) {
	defer func() { // debug/elf is not made for hostile files
		if r := recover(); r != nil {
			err = fmt.Errorf("it is a damaged binary: %v", r)
		}
	}()
	file, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("it is a damaged or half a binary: %w", err)
	}
	cut := func(what string, off, n uint64) error {
		if off > uint64(size) || n > uint64(size)-off {
			return fmt.Errorf("it is half a binary: %s ends at byte %d, the file at %d; copy it again", what, off+n, size)
		}
		return nil
	}
	for i, p := range file.Progs {
		if err := cut(fmt.Sprintf("segment %d", i), p.Off, p.Filesz); err != nil {
			return err
		}
	}
	for _, s := range file.Sections {
		if s.Type == elf.SHT_NOBITS {
			continue
		}
		if err := cut("section "+s.Name, s.Offset, s.FileSize); err != nil {
			return err
		}
	}
	return nil
}
