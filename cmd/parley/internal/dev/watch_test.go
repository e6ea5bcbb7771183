package dev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestWatch: each way to save is seen, once; what is no source is not.
func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	write := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("package main"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(file)
	s := &sources{dirs: map[string]bool{dir: true}}
	w, err := newWatcher(s, time.Now().Add(time.Hour), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx) })
	defer wg.Wait()
	defer cancel()
	saved := func(what string) {
		t.Helper()
		select {
		case <-w.saves:
		case <-time.After(time.Minute):
			t.Fatalf("%s: not seen", what)
		}
	}
	write(file)
	saved("written in place")
	write(file + "~")
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
	saved("renamed over")
	write(filepath.Join(dir, "lib", "deep", "x.go"))
	saved("a new directory")
	write(filepath.Join(dir, "lib", "deep", "y.go"))
	saved("a file in it")
	if err := os.Remove(filepath.Join(dir, "lib", "deep", "y.go")); err != nil {
		t.Fatal(err)
	}
	saved("a removed file")
	write(filepath.Join(dir, "main_test.go"))
	write(filepath.Join(dir, "testdata", "z.go"))
	write(filepath.Join(dir, ".main.go.swp"))

	// Sources that come later, and were written before they were watched.
	late := t.TempDir()
	begun := time.Now().Add(-time.Minute)
	select {
	case <-w.saves:
		t.Error("what is no source was seen as saved")
	default:
	}
	write(filepath.Join(late, "a.go"))
	w.updates <- update{&sources{dirs: map[string]bool{dir: true, late: true}}, begun}
	saved("written before it was watched")
	w.updates <- update{s, begun}
}
