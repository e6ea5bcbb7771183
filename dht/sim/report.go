package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Report is a scenario's runs and what they show.
type Report struct {
	Scenario string          `json:"scenario"`
	Title    string          `json:"title"`
	About    string          `json:"about"`
	Seed     uint64          `json:"seed"`
	Runs     []VariantResult `json:"runs"`
	Criteria []Criterion     `json:"criteria"`
}

// VariantResult is one run.
type VariantResult struct {
	Variant
	Result *Result `json:"result"`
}

// Criterion is one figure and its bound. A control's criterion is met if the
// attack works where the mitigation is off.
type Criterion struct {
	Run     string  `json:"run"`
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Bound   float64 `json:"bound"`
	Least   bool    `json:"at_least"` // else at most
	Control bool    `json:"control,omitempty"`
	Met     bool    `json:"met"`
}

func (r *Report) least(run, what string, v, bound float64) {
	r.Criteria = append(r.Criteria, Criterion{Run: run, What: what, Value: v, Bound: bound, Least: true, Met: v >= bound})
}

func (r *Report) most(run, what string, v, bound float64) {
	r.Criteria = append(r.Criteria, Criterion{Run: run, What: what, Value: v, Bound: bound, Met: v <= bound})
}

// shows is least for a control.
func (r *Report) shows(run, what string, v, bound float64) {
	r.Criteria = append(r.Criteria, Criterion{Run: run, What: what, Value: v, Bound: bound, Least: true, Control: true, Met: v >= bound})
}

// Missed are the criteria that are not met.
func (r *Report) Missed() (out []Criterion) {
	for _, c := range r.Criteria {
		if !c.Met {
			out = append(out, c)
		}
	}
	return out
}

// Write puts report.md, report.json and the plots into dir, which it makes.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("sim: report: %w", err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("sim: report: %w", err)
	}
	plots := r.plots()
	files := map[string][]byte{"report.json": append(b, '\n')}
	text := r.Markdown()
	for _, p := range plots {
		files[p.file] = p.svg()
		text += fmt.Sprintf("\n![%s](%s)\n", p.title, p.file)
	}
	files["report.md"] = []byte(text)
	var errs []error
	for name, b := range files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sim: report: %w", err)
	}
	return nil
}

// figure formats a number with three digits that count.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func percent(s Share) string {
	if s.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f%% (%.2f to %.2f)", 100*s.Part, 100*s.Low, 100*s.High)
}

func (s Summary) String() string {
	if s.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%s ±%s · %s · %s · %s", figure(s.Mean), figure(s.CI), figure(s.P50), figure(s.P90), figure(s.P99))
}

// Markdown is the report as text.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nScenario `%s`, seed %d. %s\n\n", r.Title, r.Scenario, r.Seed, r.About)
	if len(r.Criteria) > 0 {
		b.WriteString("| run | criterion | bound | measured | met |\n|---|---|---|---|---|\n")
		for _, c := range r.Criteria {
			sign, met, what := "≤", "yes", c.What
			if c.Least {
				sign = "≥"
			}
			if !c.Met {
				met = "**no**"
			}
			if c.Control {
				what = "control: " + what
			}
			fmt.Fprintf(&b, "| %s | %s | %s %s | %.4g | %s |\n", c.Run, what, sign, figure(c.Bound), c.Value, met)
		}
		b.WriteString("\n")
	}
	b.WriteString("Shares with their 95% confidence interval (Wilson); other figures: mean ± half of its 95% interval · median · 90th · 99th percentile.\n\n|  |")
	for _, v := range r.Runs {
		fmt.Fprintf(&b, " %s |", v.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.Runs)) + "\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, v := range r.Runs {
			fmt.Fprintf(&b, " %s |", row.cell(v.Result))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// rows are the lines of the report's table.
var rows = []struct {
	name string
	cell func(*Result) string
}{
	{"nodes online · of these servers", func(r *Result) string { return fmt.Sprintf("%.0f · %.0f", r.Online, r.Servers) }},
	{"virtual hours measured", func(r *Result) string { return figure(r.Hours) }},
	{"found", func(r *Result) string { return percent(r.Found) }},
	{"of these with the newest seq", func(r *Result) string { return percent(r.Fresh) }},
	{"found in the own store", func(r *Result) string { return fmt.Sprint(r.Local) }},
	{"hops to the first holder", func(r *Result) string { return r.Hops.String() }},
	{"log2 of the servers", func(r *Result) string { return figure(math.Log2(max(1, r.Servers))) }},
	{"first value, ms", func(r *Result) string { return r.First.String() }},
	{"final, ms", func(r *Result) string { return r.Final.String() }},
	{"requests per lookup", func(r *Result) string { return r.Msgs.String() }},
	{"answers per lookup", func(r *Result) string { return r.Asked.String() }},
	{"cold dials per lookup", func(r *Result) string { return r.Cold.String() }},
	{"publication after a move, ms", func(r *Result) string { return r.Publish.String() }},
	{"maintenance requests per node-hour", func(r *Result) string { return figure(r.Maintenance) }},
	{"requests per node-hour: lookup", perHour("lookup")},
	{"search for oneself", perHour("self")},
	{"refresh", perHour("refresh")},
	{"publish", perHour("publish")},
	{"read back", perHour("readback")},
	{"check", perHour("check")},
	{"renew", perHour("renew")},
	{"candidates", perHour("candidate")},
	{"strangers", perHour("stranger")},
	{"hand-over, SYNC, repair, exploration", perHour("hand-over")},
	{"bytes per second and node, both ways · of these for maintenance", func(r *Result) string { return figure(r.BytesPerSec) + " · " + figure(r.Upkeep) }},
	{"of these heartbeats and renewals of sessions", func(r *Result) string { return figure(r.Beats) }},
	{"contacts", func(r *Result) string { return r.Contacts.String() }},
	{"full buckets where they could be", func(r *Result) string { return percent(r.FullBuckets) }},
	{"stale entries, full buckets", func(r *Result) string { return percent(r.StaleFull) }},
	{"stale entries, other buckets", func(r *Result) string { return percent(r.StaleThin) }},
	{"know 15 of their 16 nearest", func(r *Result) string { return percent(r.Know) }},
	{"replicas at the nearest 16, 45 min old or more", func(r *Result) string { return percent(r.Overlap) }},
	{"records per server", func(r *Result) string { return r.Records.String() }},
	{"their bytes", func(r *Result) string { return r.RecordBytes.String() }},
	{"size estimate, relative error", func(r *Result) string { return r.SizeError.String() }},
	{"attackers in tables", func(r *Result) string { return percent(r.Attackers) }},
	{"lookups of the targets", func(r *Result) string { return percent(r.Targets) }},
	{"attackers in watched tables", func(r *Result) string { return percent(r.Watched) }},
	{"records of agents dropped for others · of these at one of the nearest 16", func(r *Result) string { return fmt.Sprint(r.Evicted) + " · " + fmt.Sprint(r.EvictedNear) }},
	{"live contacts put out for others", func(r *Result) string { return fmt.Sprint(r.PutOut) }},
	{"dials to the victim per node and 10 min", func(r *Result) string { return figure(r.VictimDials) }},
	{"requests simulated", func(r *Result) string { return fmt.Sprint(r.Requests) }},
	{"wall time, s · requests per second", func(r *Result) string { return figure(r.Wall) + " · " + figure(r.PerSecond) }},
	{"peak memory of the process, MB", func(r *Result) string { return figure(r.PeakMB) }},
}

// perHour is the requests · failures · cold dials · bytes of one purpose.
func perHour(purpose string) func(*Result) string {
	return func(r *Result) string {
		t := r.PerHour[purpose]
		return figure(t.Requests) + " · failed " + figure(t.Failed) + " · dials " + figure(t.Dials) + " · bytes " + figure(t.Bytes)
	}
}
