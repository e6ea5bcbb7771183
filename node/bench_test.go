package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// The whole message cycle against its floors, in one run (docs/benchmarks.md):
//
//	go test ./node -run '^$' -bench Cycle -count 6
//
// floor: four processes that pass bare frames. send: Alice's handler sends,
// Bob's answers, four processes. commit: a client calls Alice, Bob commits,
// Alice commits, both durable. sync: append of 512 bytes and fdatasync. durable
// floor: the floor, with such a sync in each node before it passes an answer on.

const benchPayload = 100

func BenchmarkCycle(b *testing.B) {
	for _, c := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("floor/c=%d", c), func(b *testing.B) {
			benchFloor(b, c, false)
		})
	}
	b.Run("durable floor/c=1", func(b *testing.B) { benchFloor(b, 1, true) })
	b.Run("sync", benchSync)
	alice, bob := benchPair(b)
	for _, c := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("send/c=%d", c), func(b *testing.B) {
			measure(b, c, func(_, n int, took []time.Duration) []time.Duration {
				for len(took) < n {
					in := testDrive{To: bob, N: min(n-len(took), 5000), Data: make([]byte, benchPayload)}
					for _, ns := range benchCall[[]int64](b, alice, "drive", in) {
						took = append(took, time.Duration(ns))
					}
				}
				return took
			})
		})
	}
	for _, c := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("commit/c=%d", c), func(b *testing.B) {
			in := testSend{To: bob, Commit: true, Message: testMessage{Do: "commit", Data: make([]byte, benchPayload)}}
			measure(b, c, func(_, n int, took []time.Duration) []time.Duration {
				for range n {
					began := time.Now()
					benchCall[testMessage](b, alice, "send", in)
					took = append(took, time.Since(began))
				}
				return took
			})
		})
	}
}

func benchFloor(b *testing.B, c int, durable bool) {
	trip := floorCycle(b, c, durable)
	payload := make([]byte, benchPayload)
	measure(b, c, func(worker, n int, took []time.Duration) []time.Duration {
		for range n {
			began := time.Now()
			trip(worker, payload)
			took = append(took, time.Since(began))
		}
		return took
	})
}

// measure spreads b.N operations over c callers and reports the median and the
// 99th percentile of their times, and the rate.
func measure(b *testing.B, c int, work func(worker, n int, took []time.Duration) []time.Duration) {
	all := make([][]time.Duration, c)
	var wg sync.WaitGroup
	before := processTime()
	b.ResetTimer()
	for i := range c {
		n := b.N / c
		if i < b.N%c {
			n++
		}
		wg.Go(func() { all[i] = work(i, n, make([]time.Duration, 0, n)) })
	}
	wg.Wait()
	b.StopTimer()
	cpu := processTime() - before
	took := slices.Concat(all...)
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	b.ReportMetric(us(took[len(took)/2]), "p50-us")
	b.ReportMetric(us(took[len(took)*99/100]), "p99-us")
	b.ReportMetric(us(cpu)/float64(len(took)), "cpu-us/op")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "ops/s")
}

// processTime is what this process and its descendants have used of the
// processors. Unlike the time that passes, it says something on a loaded machine.
func processTime() (used time.Duration) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	parent, ticks := map[int]int{}, map[int]int{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ") // proc(5): fields 3 and on
		f := strings.Fields(rest)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent[pid], _ = strconv.Atoi(f[1])
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		ticks[pid] = user + system
	}
	for pid := range parent {
		up := pid
		for up > 1 && up != os.Getpid() {
			up = parent[up]
		}
		if up == os.Getpid() {
			used += time.Duration(ticks[pid]) * 10 * time.Millisecond
		}
	}
	return used
}

func benchCall[Out any](b *testing.B, c *control.Client, function string, in any) (out Out) {
	payload, err := sdk.Marshal(in)
	if err != nil {
		b.Error(err)
		return out
	}
	reply, err := c.Call(context.Background(), "test", function, payload)
	if err == nil {
		err = sdk.Unmarshal(reply, &out)
	}
	if err != nil {
		b.Error(err)
	}
	return out
}

// benchPair starts Alice's and Bob's nodes with their handlers, each a process
// of its own, and returns Alice's client and Bob's agent.
func benchPair(b *testing.B) (*control.Client, sdk.AgentID) {
	plugins := pluginDir(b, "test")
	dir := shortTempDir(b)
	bobDir, aliceDir := filepath.Join(dir, "b"), filepath.Join(dir, "a")
	bobLine := startRole(b, "node", bobDir, plugins).line()
	startRole(b, "node", aliceDir, plugins, bobLine).line()
	client, err := control.Dial(aliceDir)
	if err != nil {
		b.Fatal(err)
	}
	bob, err := ParsePeer(bobLine)
	if err != nil {
		b.Fatal(err)
	}
	return client, bob.Agent
}

func benchSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	record := make([]byte, 512)
	measure(b, 1, func(_, n int, took []time.Duration) []time.Duration {
		for range n {
			began := time.Now()
			if _, err := f.Write(record); err != nil {
				b.Error(err)
			}
			if err := fdatasync(f); err != nil {
				b.Error(err)
			}
			took = append(took, time.Since(began))
		}
		return took
	})
}

// BenchmarkCheckEntry is what one body costs a holder, a right one and what it is
// flooded with.
func BenchmarkCheckEntry(b *testing.B) {
	r := foreignRecord(b, sdk.DNAHash{1}, strings.Repeat("x", 3000))
	right := encodeAnyway(&r)
	altered := append([]byte{}, right...)
	altered[len(altered)-1] ^= 1
	forged := append([]byte{}, right...)
	forged[202] ^= 1
	for name, body := range map[string][]byte{"right": right, "forged": forged, "altered": altered, "garbage": make([]byte, 4096)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := checkEntry(body); (err == nil) != (name == "right") {
					b.Fatal(err)
				}
			}
		})
	}
}
