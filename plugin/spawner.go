package plugin

import "runtime"

// spawner starts processes from one OS thread. PR_SET_PDEATHSIG fires when the
// *thread* that forked ends, not the process (golang/go#27505), so that thread
// must live as long as any child: run returns only when all children are dead.
type spawner struct {
	work chan func()
}

func newSpawner() *spawner { return &spawner{work: make(chan func())} }

// run does the work until stop is closed. The thread ends with it.
func (s *spawner) run(stop <-chan struct{}) {
	runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
	for {
		select {
		case f := <-s.work:
			f()
		case <-stop:
			return
		}
	}
}

// do runs f on the spawner's thread and waits for it. It must not be called
// after run was told to stop.
func (s *spawner) do(f func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- f() }
	return <-done
}
