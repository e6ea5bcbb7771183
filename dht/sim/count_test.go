package sim

import (
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	r, s, err := run(t.Context(), Config{Nodes: 1000, Warmup: 10 * time.Minute, Duration: 20 * time.Minute, Session: 2 * time.Hour, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.Requests, r.Maintenance, s.parts[0].kinds)
}
