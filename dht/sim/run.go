package sim

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// Result is what one run measured. Times are in ms. Every field but Wall and
// PeakMB is determined by the Config.
type Result struct {
	Nodes     int     `json:"nodes"`
	Servers   float64 `json:"servers"` // online, mean
	Online    float64 `json:"online"`
	Hours     float64 `json:"hours"`
	Seed      uint64  `json:"seed"`
	SessionH  float64 `json:"session_median_hours"`
	Malicious float64 `json:"malicious"`
	Behaviour string  `json:"behaviour,omitempty"`

	Found Share   `json:"found"`
	Fresh Share   `json:"fresh"`
	Local int64   `json:"found_in_own_store"`
	Hops  Summary `json:"hops"`
	First Summary `json:"first_value_ms"`
	Final Summary `json:"final_ms"`
	Asked Summary `json:"asked_per_lookup"`
	Msgs  Summary `json:"requests_per_lookup"`
	Cold  Summary `json:"cold_dials_per_lookup"`

	Publish Summary `json:"publish_ms"`

	PerHour     map[string]Traffic `json:"per_node_hour"`
	Maintenance float64            `json:"maintenance_requests_per_node_hour"`
	BytesPerSec float64            `json:"bytes_per_second_and_node"`
	Upkeep      float64            `json:"maintenance_bytes_per_second_and_node"`
	Beats       float64            `json:"heartbeat_bytes_per_second_and_node"` // of Upkeep

	Contacts    Summary `json:"contacts"`
	FullBuckets Share   `json:"full_buckets"`
	StaleFull   Share   `json:"stale_in_full_buckets"`
	StaleThin   Share   `json:"stale_in_other_buckets"`
	Know        Share   `json:"know_15_of_16_nearest"`
	Overlap     Share   `json:"replicas_at_the_nearest_after_an_hour"`
	Records     Summary `json:"records_per_server"`
	RecordBytes Summary `json:"record_bytes_per_server"`
	SizeError   Summary `json:"size_estimate_error"`
	Attackers   Share   `json:"attackers_in_tables"`

	// Of attacks only:
	AttackersMost float64 `json:"attackers_in_any_table_most"`
	Targets       Share   `json:"lookups_of_targets"`
	Watched       Share   `json:"attackers_in_watched_tables"`
	Evicted       int64   `json:"records_of_agents_evicted"`
	EvictedNear   int64   `json:"of_these_at_the_nearest"`
	PutOut        uint64  `json:"live_contacts_put_out"`
	VictimDials   float64 `json:"dials_to_victim_per_node_and_10_min"`

	Stages []Stage `json:"stages"`
	cdf    []float64
	warmup float64 // minutes

	Requests  int64   `json:"requests"`
	Wall      float64 `json:"wall_seconds"`
	PerSecond float64 `json:"requests_per_second"`
	PeakMB    float64 `json:"peak_memory_mb"`
}

// Traffic is what one purpose costs a node in an hour.
type Traffic struct {
	Requests float64 `json:"requests"`
	Failed   float64 `json:"failed"`
	Dials    float64 `json:"dials"`
	Bytes    float64 `json:"bytes"`
}

// Stage is the lookups that began in five minutes of the run.
type Stage struct {
	Minute float64 `json:"minute"`
	Found  Share   `json:"found"`
	Fresh  Share   `json:"fresh"`
}

// Run makes one run. It ends early with ctx's error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	r, _, err := run(ctx, cfg)
	return r, err
}

func run(ctx context.Context, cfg Config) (*Result, *sim, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, nil, err
	}
	start := time.Now()
	s := newSim(cfg)
	if err := s.run(ctx); err != nil {
		return nil, nil, fmt.Errorf("sim: after %s of virtual time: %w", time.Duration(s.next()), err)
	}
	r := s.result()
	r.Wall = time.Since(start).Seconds()
	r.PerSecond = float64(r.Requests) / r.Wall
	r.PeakMB = peakMemory()
	return r, s, nil
}

// result draws up what was measured.
func (s *sim) result() *Result {
	var m meter
	for _, p := range s.parts {
		m.add(&p.meter)
	}
	c, ms := &s.census, float64(time.Millisecond)
	r := &Result{Nodes: s.cfg.Nodes, Hours: s.cfg.Duration.Hours(), Seed: s.cfg.Seed, SessionH: s.cfg.Session.Hours(), Malicious: s.cfg.Malicious,
		Found: share(m.found, m.lookups), Fresh: share(m.fresh, m.found), Local: m.local,
		Hops: summarize(m.hops, 1), First: summarize(m.first, ms), Final: summarize(m.final, ms),
		Asked: summarize(m.asked, 1), Msgs: summarize(m.msgs, 1), Cold: summarize(m.cold, 1), Publish: summarize(m.publish, ms),
		Contacts: summarize(c.contacts, 1), FullBuckets: share(c.full, c.fillable),
		StaleFull: share(c.stale, c.entries), StaleThin: share(c.staleThin, c.thin), Know: share(c.know, c.nodes),
		Overlap: share(c.overlap, c.agents), Records: summarize(c.records, 1), RecordBytes: summarize(c.recordBytes, 1),
		SizeError: summarize(c.size, 1000), Attackers: share(c.attackers, c.allEntries), PerHour: map[string]Traffic{}}
	r.AttackersMost = float64(c.badMost)
	r.PutOut = m.putOut
	for i := range s.nodes {
		r.Evicted += s.nodes[i].evicted
		r.EvictedNear += s.nodes[i].evictNear
		if n := &s.nodes[i]; n.m != nil {
			r.PutOut += n.m.PutOut()
		}
	}
	r.Watched, r.warmup = share(c.watchedBad, c.watched), s.cfg.Warmup.Minutes()
	if a, ok := s.cfg.attack.(*sybils); ok {
		k, n := int64(0), int64(0)
		for _, t := range a.ids {
			k, n = k+m.targets[t].found, n+m.targets[t].lookups
		}
		r.Targets = share(k, n)
	}
	if s.cfg.Malicious > 0 {
		r.Behaviour = s.cfg.Behaviour.String()
	}
	for i := range 100 {
		if n := len(m.first); n > 0 {
			r.cdf = append(r.cdf, float64(m.first[i*n/100])/ms) // summarize has sorted it
		}
	}
	if c.times > 0 {
		r.Servers, r.Online = float64(c.servers)/float64(c.times), float64(c.online)/float64(c.times)
	}
	hours := r.Online * r.Hours
	for _, hits := range s.world.victims {
		r.VictimDials += float64(hits.Load()) / max(1, hours*6)
	}
	for p := range dht.Purposes {
		r.Requests += m.calls[p]
		if hours == 0 {
			continue
		}
		r.PerHour[p.String()] = Traffic{float64(m.calls[p]) / hours, float64(m.failed[p]) / hours, float64(m.dials[p]) / hours, float64(m.bytes[p]) / hours}
		r.BytesPerSec += float64(m.bytes[p]) / hours / 3600
		if p != dht.PurposeLookup {
			r.Maintenance += float64(m.calls[p]) / hours
			r.Upkeep += float64(m.bytes[p]) / hours / 3600
		}
	}
	if hours > 0 {
		r.Beats = float64(m.beats) / hours / 3600
		r.BytesPerSec, r.Upkeep = r.BytesPerSec+r.Beats, r.Upkeep+r.Beats
	}
	for i := 0; i <= int(s.end/int64(stageLength)); i++ {
		if st := m.stages[i]; st != nil {
			r.Stages = append(r.Stages, Stage{float64(i) * stageLength.Minutes(), share(st.found, st.lookups), share(st.fresh, st.found)})
		}
	}
	return r
}

// peakMemory is the most memory that the process ever had, in MB, of the
// operating system; 0 if it does not tell.
func peakMemory() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024
		}
	}
	return 0
}
