package sim

import (
	"testing"
	"time"
)

// BenchmarkRequests is the cost of one simulated request, its answer and all
// that follows from it.
func BenchmarkRequests(b *testing.B) {
	for b.Loop() {
		r, err := Run(b.Context(), Config{Nodes: 1000, Warmup: 10 * time.Minute, Duration: 20 * time.Minute, Session: 2 * time.Hour, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(r.Requests)*1.5/r.Wall, "requests/s")
	}
}
