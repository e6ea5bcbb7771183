package plugin

import (
	"os"
	"path/filepath"
	"testing"
)

// Files of one DNA that are removed together leave nothing behind, whichever was up.
func TestAllFilesOfDNAGone(t *testing.T) {
	t.Parallel()
	var names []string
	for _, dna := range []string{"alpha", "beta", "gamma", "delta"} {
		names = append(names, dna+".ok", dna+".ok-2")
	}
	n := startNode(t, Config{Dir: place(t, names...)})
	for _, name := range names {
		if err := os.Remove(filepath.Join(n.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return len(n.Status()) == 0 })
	if len(n.detached) != 4 {
		t.Errorf("detached %v", n.detached)
	}
}

// A file that goes while another one of its DNA is being tried waits for the
// outcome: cp auction-2 plugins/ && rm plugins/auction-1.
func TestGoneDuringTry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n, taken, gate := newGatedNode(t, dir)
	n.await(t, EventUp)
	stop := callers(t, n.handler(t, "alpha"), 2)
	put(t, dir, "alpha.v-2", "two", true)
	<-taken
	if err := os.Remove(filepath.Join(dir, "alpha.v")); err != nil {
		t.Fatal(err)
	}
	for range 10 { // long after it is known to be gone
		n.look(t)
	}
	close(gate)
	n.await(t, EventSwapped)
	stop()
	waitFor(t, func() bool { return len(n.Status()) == 1 })
	if v, s := versionOf(t, n.handler(t, "alpha")), n.onlyStatus(t); v != "two" || s.File != "alpha.v-2" || len(n.detached) != 0 {
		t.Errorf("version %q, status %+v, detached %v", v, s, n.detached)
	}
}
