package node

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
)

func TestPins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const sumA, sumB = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
	want := func(want ...Pin) {
		t.Helper()
		got, err := Pins(dir)
		if err != nil || !reflect.DeepEqual(got, append([]Pin{}, want...)) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	want()
	a, b := file("auction", "a"), file("auction", "b")
	if _, err := AddPins(dir, []string{a, filepath.Join(dir, "missing")}); err == nil {
		t.Error("a missing file is pinned")
	}
	want()
	if got, err := AddPins(dir, []string{a, b}); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	want(Pin{sumB, "auction"}, Pin{sumA, "auction"})
	if _, err := RemovePins(dir, []string{sumA, "other"}); err == nil {
		t.Error("what is not there was removed")
	}
	if got, err := RemovePins(dir, []string{sumA}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	want(Pin{sumB, "auction"})
	if _, err := RemovePins(dir, []string{"auction"}); err != nil {
		t.Error(err)
	}
	want()
}

// Commands that change the pins at the same time lose none.
func TestPinsAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const many = 20
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			path := filepath.Join(t.TempDir(), fmt.Sprint("h", i))
			if err := os.WriteFile(path, []byte{byte(i)}, 0o700); err != nil {
				t.Error(err)
			}
			if _, err := AddPins(dir, []string{path}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := Pins(dir); err != nil || len(got) != many {
		t.Errorf("%d pins of %d, %v", len(got), many, err)
	}
}
