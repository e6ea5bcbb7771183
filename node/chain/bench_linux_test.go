package chain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// The floor is what any log must do: append 512 bytes a record to a file and
// fdatasync, once for all that wait.
type floor struct {
	f     *os.File
	queue chan chan error
	done  chan struct{}
}

func (fl *floor) run() {
	defer close(fl.done)
	record := make([]byte, 512)
	var buf []byte
	for first := range fl.queue {
		group := append([]chan error(nil), first)
		buf = append(buf[:0], record...)
	more:
		for len(group) < 256 {
			select {
			case r := <-fl.queue:
				group, buf = append(group, r), append(buf, record...)
			default:
				break more
			}
		}
		_, err := fl.f.Write(buf)
		if err == nil {
			err = syscall.Fdatasync(int(fl.f.Fd()))
		}
		for _, r := range group {
			r <- err
		}
	}
}

// load runs b.N operations on c goroutines and reports rate and median.
func load(b *testing.B, c int, op func(worker int) error) {
	times := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range c {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				if err := op(w); err != nil {
					b.Error(err)
					return
				}
				times[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// go test -run - -bench Commit -benchtime 2s -count 5 ./node/chain
func BenchmarkCommit(b *testing.B) {
	for _, c := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("floor/c=%d", c), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			fl := &floor{f: f, queue: make(chan chan error, 256), done: make(chan struct{})}
			go fl.run()
			load(b, c, func(int) error {
				r := make(chan error, 1)
				fl.queue <- r
				return <-r
			})
			close(fl.queue)
			<-fl.done
		})
		for _, kind := range []string{"append", "receive"} {
			b.Run(fmt.Sprintf("%s/c=%d", kind, c), func(b *testing.B) {
				o := testOptions(b)
				o.Now, o.walHalf = time.Now, 0
				ch := mustOpen(b, o)
				content := make([]byte, 512)
				var n atomic.Uint64
				load(b, c, func(int) error {
					batch := Batch{Entries: []sdk.Entry{{Type: "bid", Content: content}}, Cause: function(1)}
					if kind == "receive" {
						batch.Cause, batch.KeepReply, batch.Reply = receive(1), true, content[:64]
						batch.Cause.Message = messageID(n.Add(1))
					}
					_, err := ch.Append(context.Background(), batch)
					return err
				})
				mustVerify(b, ch, uint64(b.N)+1)
			})
		}
	}
}
