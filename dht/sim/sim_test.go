package sim

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSmall(t *testing.T) {
	r, err := Run(t.Context(), Config{Nodes: 200, Duration: 30 * time.Minute, Session: 2 * time.Hour, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.MarshalIndent(r, "", " ")
	t.Log(string(b))
}
