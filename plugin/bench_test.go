package plugin

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hashicorp/go-plugin"

	"github.com/parley-p2p/parley/sdk"
)

// The benchmarks compare a call of a handler process with two floors in the
// same run: bare frames over a Unix socket to another process, with ids and a
// writer that packs, and a unary gRPC call through go-plugin (its health check).
// Payloads are 100 bytes. p50-us is the median latency.

var benchCallers = []int{1, 32, 128}

func BenchmarkCall(b *testing.B) {
	n := startNode(b, Config{Dir: place(b, "alpha.ok")})
	h := n.handler(b, "alpha")
	pid := h.status().PID
	host := &testHost{send: func(_ context.Context, p []byte) ([]byte, error) { return p, nil }}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	payload := string(make([]byte, 100))
	for _, k := range []struct{ callbacks, function string }{{"0", "echo"}, {"1", "send"}, {"commit", "commit"}} {
		for _, c := range benchCallers {
			b.Run(fmt.Sprintf("callbacks=%s/c=%d", k.callbacks, c), func(b *testing.B) {
				bench(b, c, pid, func() error {
					_, err := h.Serve(ctx, host, call(k.function, payload))
					return err
				})
			})
		}
	}
	big := string(make([]byte, 64<<10))
	b.Run("64KiB/c=16", func(b *testing.B) {
		b.SetBytes(2 * 64 << 10)
		bench(b, 16, pid, func() error {
			_, err := h.Serve(ctx, host, call("echo", big))
			return err
		})
	})
}

// BenchmarkSandboxedCall is a call with the sandbox off and on.
func BenchmarkSandboxedCall(b *testing.B) {
	payload := string(make([]byte, 100))
	for _, mode := range []SandboxMode{SandboxOff, SandboxAuto} {
		n := startNode(b, Config{Dir: place(b, "alpha.ok"), Sandbox: mode})
		h := n.handler(b, "alpha")
		for _, c := range []int{1, 128} {
			b.Run(fmt.Sprintf("%s/c=%d", mode, c), func(b *testing.B) {
				bench(b, c, h.status().PID, func() error {
					_, err := h.Serve(context.Background(), &testHost{}, call("echo", payload))
					return err
				})
			})
		}
		n.stop()
	}
}

// BenchmarkUnary is what go-plugin offers: one gRPC call per call.
func BenchmarkUnary(b *testing.B) {
	n := startNode(b, Config{Dir: place(b, "alpha.ok")})
	h := n.handler(b, "alpha")
	health, pid := h.current.health, h.status().PID
	ctx := context.Background()
	req := &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName}
	for _, c := range benchCallers {
		b.Run(fmt.Sprintf("c=%d", c), func(b *testing.B) {
			bench(b, c, pid, func() error {
				_, err := health.Check(ctx, req)
				return err
			})
		})
	}
}

// BenchmarkBareFrames is the floor.
func BenchmarkBareFrames(b *testing.B) {
	dir := shortDir(b)
	socket := filepath.Join(dir, "f")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	p, err := os.StartProcess(self, []string{"floor.frames", socket}, &os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Kill(); _, _ = p.Wait() }()
	conn, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	f := newFrames(conn)
	defer f.close()
	payload, pid := make([]byte, 100), p.Pid
	for _, c := range benchCallers {
		b.Run(fmt.Sprintf("c=%d", c), func(b *testing.B) {
			bench(b, c, pid, func() error { return f.call(payload) })
		})
	}
}

// BenchmarkStart is the time from nothing to the first answer of a handler, and
// to its end. The binary's copy is there already; both are read, since this
// binary is large that is most of the time.
func BenchmarkStart(b *testing.B) {
	cfg := Config{Dir: place(b, "alpha.ok"), StateDir: shortDir(b), settle: time.Nanosecond}
	for b.Loop() {
		n := startNode(b, cfg)
		if _, err := n.handler(b, "alpha").Serve(context.Background(), &testHost{}, call("echo", "")); err != nil {
			b.Fatal(err)
		}
		n.stop()
	}
}

// BenchmarkSwap swaps while callers call. Of the calls that overlap the moment at
// which another process takes over, and of the others, it reports the latencies.
func BenchmarkSwap(b *testing.B) {
	for _, callers := range []int{1, 32} {
		b.Run(fmt.Sprintf("c=%d", callers), func(b *testing.B) {
			n := startNode(b, Config{Dir: place(b, "alpha.ok")})
			h := n.handler(b, "alpha")
			stop := make(chan struct{})
			var wg sync.WaitGroup
			var mu sync.Mutex
			var calls []span
			for range callers {
				wg.Go(func() {
					var mine []span
					for {
						select {
						case <-stop:
							mu.Lock()
							defer mu.Unlock()
							calls = append(calls, mine...)
							return
						default:
						}
						begun := time.Now()
						if _, err := h.Serve(context.Background(), &testHost{}, call("echo", "")); err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, span{begun, time.Since(begun)})
					}
				})
			}
			for b.Loop() {
				if err := n.Restart(context.Background(), "alpha"); err != nil {
					b.Fatal(err)
				}
			}
			close(stop)
			wg.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
			reportSwaps(b, calls, n.events)
		})
	}
}

type span struct {
	begun time.Time
	took  time.Duration
}

func reportSwaps(b *testing.B, calls []span, events []Event) {
	var near, far []time.Duration
	for _, c := range calls {
		over := slices.ContainsFunc(events, func(e Event) bool {
			return e.Kind == EventSwapped && !c.begun.After(e.Time) && e.Time.Before(c.begun.Add(c.took+time.Millisecond))
		})
		if over {
			near = append(near, c.took)
		} else {
			far = append(far, c.took)
		}
	}
	for name, d := range map[string][]time.Duration{"swap": near, "else": far} {
		slices.Sort(d)
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", .5}, {"p99", .99}, {"max", 1}} {
			if len(d) > 0 {
				v := d[min(int(q.at*float64(len(d))), len(d)-1)]
				b.ReportMetric(float64(v.Nanoseconds())/1000, name+"-"+q.name+"-us")
			}
		}
	}
	b.ReportMetric(float64(len(near)), "overlapping-calls")
}

// cpuTime is the processor time of a process's threads so far.
func cpuTime(pid int) (total time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		var ns time.Duration
		if s, err := os.ReadFile(f); err == nil {
			_, _ = fmt.Sscan(string(s), &ns)
			total += ns
		}
	}
	return total
}

// bench runs b.N calls by c callers and reports the median latency, and the
// processor time per call here and in the process pid, which depends less than
// the clock's on what else the machine does.
func bench(b *testing.B, c, pid int, f func() error) {
	for range 2 * c { // open what is opened once
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, c)
	var wg sync.WaitGroup
	b.ReportAllocs()
	here, there := cpuTime(os.Getpid()), cpuTime(pid)
	b.ResetTimer()
	for i := range c {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := f(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	here, there = cpuTime(os.Getpid())-here, cpuTime(pid)-there
	b.ReportMetric(float64((here+there).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(here.Nanoseconds())/1e3/float64(b.N), "host-cpu-us/op")
	b.ReportMetric(float64(there.Nanoseconds())/1e3/float64(b.N), "peer-cpu-us/op")
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// frames are length, id and payload; one writer packs what waits.
type frames struct {
	conn net.Conn
	out  chan []byte
	wg   sync.WaitGroup
	next atomic.Uint64
	mu   sync.Mutex
	wait map[uint64]chan struct{}
}

func newFrames(conn net.Conn) *frames {
	f := &frames{conn: conn, out: make(chan []byte, 1024), wait: map[uint64]chan struct{}{}}
	f.wg.Go(f.write)
	f.wg.Go(f.read)
	return f
}

func (f *frames) close() {
	close(f.out)
	_ = f.conn.Close()
	f.wg.Wait()
}

func (f *frames) write() { packFrames(f.conn, f.out) }

func packFrames(conn net.Conn, out <-chan []byte) {
	w := bufio.NewWriterSize(conn, 64<<10)
	for b := range out {
		_, _ = w.Write(b)
		if len(out) == 0 && w.Flush() != nil {
			return
		}
	}
}

func (f *frames) read() {
	r := bufio.NewReaderSize(f.conn, 64<<10)
	for {
		b, err := readFrame(r)
		if err != nil {
			return
		}
		id := binary.BigEndian.Uint64(b[4:])
		f.mu.Lock()
		c := f.wait[id]
		delete(f.wait, id)
		f.mu.Unlock()
		c <- struct{}{}
	}
}

func readFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head))
	_, err = io.ReadFull(r, b)
	return b, err
}

func (f *frames) call(payload []byte) error {
	id := f.next.Add(1)
	c := make(chan struct{}, 1)
	f.mu.Lock()
	f.wait[id] = c
	f.mu.Unlock()
	b := make([]byte, 12, 12+len(payload))
	binary.BigEndian.PutUint32(b, uint32(12+len(payload)))
	binary.BigEndian.PutUint64(b[4:], id)
	f.out <- append(b, payload...)
	<-c
	return nil
}

// frameServer is the other end of the floor.
func frameServer(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 1
	}
	out := make(chan []byte, 1024)
	go packFrames(conn, out)
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		b, err := readFrame(r)
		if err != nil {
			return 0
		}
		out <- b
	}
}

var _ sdk.Host = (*testHost)(nil)
