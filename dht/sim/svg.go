package sim

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plot is one picture: lines with marks over labelled axes.
type plot struct {
	file, title, x, y string
	lines             []line
	yMin, yMax        float64 // 0, 0: of the data
	xZero             bool    // the axis begins at 0
}

type line struct {
	name   string
	dashed bool
	at     [][2]float64
}

var colours = []string{"#1f5fa8", "#b3411e", "#2f7d4f", "#7a4fa3", "#8a6d1b"}

// Geometry in pixels.
const (
	plotWidth, plotHeight  = 560, 340
	plotLeft, plotRight    = 62, 16
	plotTop, plotBottom    = 34, 76
	plotTicks              = 5
	legendRow              = 18
	plotInnerW, plotInnerH = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
)

// ticks are round numbers from lo to hi.
func ticks(lo, hi float64) []float64 {
	if hi <= lo {
		hi = lo + 1
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/plotTicks)))
	for _, f := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(f*step) <= plotTicks+1 {
			step *= f
			break
		}
	}
	var out []float64
	for v := math.Ceil(lo/step-1e-9) * step; v <= hi+step*1e-6; v += step {
		out = append(out, math.Round(v/step)*step+0) // -0 is 0
	}
	return out
}

func (p *plot) bounds() (x0, x1, y0, y1 float64) {
	x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, l := range p.lines {
		for _, a := range l.at {
			x0, x1, y0, y1 = min(x0, a[0]), max(x1, a[0]), min(y0, a[1]), max(y1, a[1])
		}
	}
	if p.xZero {
		x0 = min(x0, 0)
	}
	if p.yMax > p.yMin {
		y0, y1 = min(p.yMin, y0), max(p.yMax, y1)
	}
	if math.IsInf(x0, 0) {
		return 0, 1, 0, 1
	}
	if x1 == x0 {
		x0, x1 = x0-.5, x1+.5
	}
	if y1 == y0 {
		y0, y1 = y0-.5, y1+.5
	}
	return x0, x1, y0, y1
}

// lineWidth is less for each further line: those that lie on one another are all seen.
func lineWidth(i, lines int) float64 { return 2 + 1.5*float64(lines-1-i) }

// legend is where each line's name stands, and in how many rows.
func (p *plot) legend() (places [][2]float64, rows int) {
	x, rows := float64(plotLeft), 1
	for _, l := range p.lines {
		wide := 40 + 6.8*float64(len(l.name))
		if x > plotLeft && x+wide > plotWidth {
			x = plotLeft
			rows++
		}
		places = append(places, [2]float64{x, float64(plotHeight - 12 + legendRow*(rows-1))})
		x += wide
	}
	return places, rows
}

// svg draws the plot.
func (p *plot) svg() []byte {
	x0, x1, y0, y1 := p.bounds()
	places, rows := p.legend()
	height := plotHeight + legendRow*(rows-1)
	px := func(x float64) float64 { return plotLeft + (x-x0)/(x1-x0)*plotInnerW }
	py := func(y float64) float64 { return plotTop + (y1-y)/(y1-y0)*plotInnerH }
	var b strings.Builder
	text := func(x, y float64, anchor, s, more string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(s))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12" fill="#222">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, height)
	text(plotLeft, 20, "start", p.title, ` font-size="14" font-weight="bold"`)
	for _, v := range ticks(y0, y1) {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1[3]f" stroke="#ddd"/>`+"\n", plotLeft, plotWidth-plotRight, py(v))
		text(plotLeft-6, py(v)+4, "end", fmt.Sprintf("%.4g", v), "")
	}
	for _, v := range ticks(x0, x1) {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1[1]f" y1="%d" y2="%d" stroke="#999"/>`+"\n", px(v), plotTop+plotInnerH, plotTop+plotInnerH+4)
		text(px(v), plotTop+plotInnerH+18, "middle", fmt.Sprintf("%.4g", v), "")
	}
	fmt.Fprintf(&b, `<path d="M%d %dV%dH%d" fill="none" stroke="#555"/>`+"\n", plotLeft, plotTop, plotTop+plotInnerH, plotWidth-plotRight)
	text(plotLeft+plotInnerW/2, plotTop+plotInnerH+36, "middle", p.x, "")
	text(0, 0, "middle", p.y, fmt.Sprintf(` transform="translate(14 %d) rotate(-90)"`, plotTop+plotInnerH/2))
	for i, l := range p.lines {
		colour, dash := colours[i%len(colours)], ""
		if l.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		var d strings.Builder
		for j, a := range l.at {
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(j, 1)], px(a[0]), py(a[1]))
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="%.1f"%s/>`+"\n", d.String(), colour, lineWidth(i, len(p.lines)), dash)
		if len(l.at) <= 30 {
			for _, a := range l.at {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", px(a[0]), py(a[1]), colour)
			}
		}
		x, y := places[i][0], places[i][1]
		fmt.Fprintf(&b, `<path d="M%.1f %.1fh18" stroke="%s" stroke-width="2"%s/>`+"\n", x, y-4, colour, dash)
		text(x+22, y, "start", l.name, "")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// plots are the pictures that a report's runs have the data for.
func (r *Report) plots() (out []plot) {
	latency := plot{file: "latency.svg", title: "First value of a lookup", x: "time, ms", y: "share of lookups", yMax: 1, xZero: true}
	for i, v := range r.Runs {
		if len(v.Result.cdf) == 0 || v.Control || i > 0 && len(r.Runs) > len(colours) && i < len(r.Runs)-len(colours)+1 {
			continue
		}
		l := line{name: v.Name}
		for q, ms := range v.Result.cdf {
			l.at = append(l.at, [2]float64{ms, float64(q) / 100})
		}
		latency.lines = append(latency.lines, l)
	}
	if len(latency.lines) > 0 {
		out = append(out, latency)
	}
	switch r.Scenario {
	case "size":
		mean, p99 := line{name: "mean"}, line{name: "99th percentile", dashed: true}
		for _, v := range r.Runs {
			x := math.Log2(max(1, v.Result.Servers))
			mean.at = append(mean.at, [2]float64{x, v.Result.Hops.Mean})
			p99.at = append(p99.at, [2]float64{x, v.Result.Hops.P99})
		}
		out = append(out, plot{file: "hops.svg", title: "Hops to the first holder", x: "log2 of the servers online", y: "hops", lines: []line{mean, p99}, yMax: 5})
	case "churn":
		l := line{name: "found"}
		for _, v := range r.Runs {
			if v.Result.SessionH > 0 {
				l.at = append(l.at, [2]float64{v.Result.SessionH, 100 * v.Result.Found.Part})
			}
		}
		out = append(out, plot{file: "churn.svg", title: "Success against churn", x: "median session, h", y: "lookups that succeed, %", lines: []line{l}, yMin: 99, yMax: 100, xZero: true})
	case "malicious":
		paths, single := line{name: "disjoint paths"}, line{name: "one path (control)", dashed: true}
		for _, v := range r.Runs {
			l := &paths
			if v.Control {
				l = &single
			}
			l.at = append(l.at, [2]float64{100 * v.Result.Malicious, 100 * v.Result.Found.Part})
		}
		out = append(out, plot{file: "malicious.svg", title: "Success against the malicious fraction", x: "servers that collude, %", y: "lookups that succeed, %", lines: []line{paths, single}, yMin: 90, yMax: 100})
	}
	if minutes := r.timeline(); len(minutes.lines) > 0 {
		out = append(out, minutes)
	}
	return out
}

// timeline is success over the time of the run, where runs are long enough.
func (r *Report) timeline() plot {
	p := plot{file: "time.svg", title: "Success over time", x: "minutes since the warm-up", y: "lookups that succeed, %", yMin: 90, yMax: 100, xZero: true}
	unit := 1.0
	for _, v := range r.Runs {
		if v.Result.Hours > 3 {
			unit, p.x = 60, "hours since the warm-up"
		}
	}
	for _, v := range r.Runs {
		if len(v.Result.Stages) < 6 || len(p.lines) == len(colours) {
			continue
		}
		l := line{name: v.Name, dashed: v.Control}
		for _, s := range v.Result.Stages {
			l.at = append(l.at, [2]float64{(s.Minute - v.Result.warmup) / unit, 100 * s.Found.Part})
		}
		p.lines = append(p.lines, l)
	}
	return p
}
