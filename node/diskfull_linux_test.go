package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/sdk"
)

// limitFiles bounds the size of the files that a process writes from now on: a
// write beyond it fails, as on a full disk.
func limitFiles(t *testing.T, pid int, size uint64) {
	t.Helper()
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
}

// A commit that finds the disk full fails, of a function and of a receive; the
// chain stays valid, and commits work again once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	alice, bob, _ := behindProxy(t)
	commit := map[string]func(text string) error{
		"function": func(text string) error {
			_, err := bob.call("do", testMessage{Do: "commit", Text: text, Data: make([]byte, 64<<10)})
			return err
		},
		"receive": func(text string) error {
			_, err := call[testMessage](t, alice, "send", testSend{To: bob.peer.Agent,
				Message: testMessage{Do: "commit", Text: text, Data: make([]byte, 64<<10)}})
			return err
		},
	}
	sides := map[string]sdk.Side{"function": sdk.SideNode, "receive": sdk.SideRemoteNode}
	var want []string
	for _, kind := range []string{"function", "receive"} {
		files, err := filepath.Glob(filepath.Join(bob.dir, "chains", "test-*.db"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		limitFiles(t, bob.cmd.Process.Pid, uint64(info.Size()))
		for i := 0; err == nil; i++ {
			if i == 1000 {
				t.Fatal("the file never reached its limit")
			}
			text := fmt.Sprint(kind, i)
			if err = commit[kind](text); err == nil {
				want = append(want, text)
			}
		}
		e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, true)
		if e.HandlerCode != sdk.HandlerCodeCommit || e.Side != sides[kind] {
			t.Errorf("%s: got %v", kind, e)
		}
		if got := bob.notes(); !slices.Equal(got, want) {
			t.Errorf("%s: the chain holds %q, want %q", kind, got, want)
		}
		limitFiles(t, bob.cmd.Process.Pid, unix.RLIM_INFINITY)
		if err := commit[kind]("room again"); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		want = append(want, "room again")
		if got := bob.notes(); !slices.Equal(got, want) {
			t.Errorf("%s: the chain holds %q, want %q", kind, got, want)
		}
	}
}
