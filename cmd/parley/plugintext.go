package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/parley-p2p/parley/node/control"
)

// pluginsText is one block for each file.
func pluginsText(list []control.PluginStatus, now time.Time) string {
	if len(list) == 0 {
		return "no files: the plugin directory is empty, or the node has none (parley run --plugins DIR)\n"
	}
	blocks := make([]string, len(list))
	for i := range list {
		blocks[i] = pluginBlock(&list[i], now)
	}
	return strings.Join(blocks, "\n")
}

func pluginBlock(p *control.PluginStatus, now time.Time) string {
	t := newTable()
	row := func(what, text string) {
		if text != "" {
			t.row("  "+what, text)
		}
	}
	dna := orDash(p.DNA)
	if p.Integrity != "" {
		dna += ", integrity " + p.Integrity
	}
	row("DNA", dna)
	row("state", p.State+lasting(", for ", now, p.Since))
	row("process", processText(p, now))
	row("binary", binaryText(p))
	row("calls", fmt.Sprintf("%d running, %d queued, %d ended, %d given up", p.InFlight, p.Queued, p.Calls, p.GivenUp))
	row("probation", probationText(p, now))
	row("last error", p.LastError)
	if p.Refused != p.LastError {
		row("refused", p.Refused)
	}
	for _, d := range p.Draining {
		row("draining", fmt.Sprintf("process %d of %s: %d calls, cut off in %s", d.PID, shortSum(d.SHA256), d.Calls, left(now, d.Until)))
	}
	for _, q := range p.Quarantined {
		row("quarantined", fmt.Sprintf("%s since %s: %s", shortSum(q.SHA256), clock(q.Since), q.Reason))
	}
	for _, l := range p.Layers {
		row("layer", strings.TrimSuffix(l.Name+": "+l.State+", "+l.Detail, ", "))
	}
	return cleanLine(p.File) + "\n" + t.String()
}

func processText(p *control.PluginStatus, now time.Time) string {
	return fmt.Sprintf("%s, generation %d, %d restarts", processOr(p, "-")+lasting(", for ", now, p.Started), p.Generation, p.Restarts)
}

func processOr(p *control.PluginStatus, none string) string {
	if p.PID == 0 {
		return none
	}
	return fmt.Sprint(p.PID)
}

func binaryText(p *control.PluginStatus) string {
	text := "sha256 " + shortSum(p.SHA256)
	if p.Good != "" && p.Good != p.SHA256 {
		text += ", the last good one is " + shortSum(p.Good)
	}
	if p.Trying != "" {
		text += ", " + shortSum(p.Trying) + " is being started"
	}
	return text
}

// probationText is empty for a binary that has stood it.
func probationText(p *control.PluginStatus, now time.Time) string {
	switch {
	case p.Probation.IsZero():
		return ""
	case now.Before(p.Probation):
		return fmt.Sprintf("until %s (%s left)", clock(p.Probation), left(now, p.Probation))
	}
	return "since " + clock(p.Probation) + " only until it has had more calls"
}

// outcomeText is how handlers are after a restart.
func outcomeText(list []control.PluginStatus) string {
	var b strings.Builder
	for i := range list {
		p := &list[i]
		fmt.Fprintln(&b, cleanLine(fmt.Sprintf("%s: %s, process %s, generation %d, %s", p.File, p.State, processOr(p, "-"), p.Generation, binaryText(p))))
	}
	return b.String()
}

// eventLine has columns that most names fit: lines come one by one.
func eventLine(e *control.PluginEvent) string {
	return fmt.Sprintf("%s  %-12s  %-12s  %-11s  %-12s  %s\n", clock(e.Time), cleanLine(e.File), cleanLine(orDash(e.DNA)),
		cleanLine(e.Kind), cleanLine(shortSum(e.SHA256)), cleanLine(e.Text))
}

// handlerState is the state of a DNA's handler, and in short what else a swap
// has left; parley plugin status tells all.
func handlerState(h *control.HandlerStatus, plugins []control.PluginStatus) string {
	for i := range plugins {
		p := &plugins[i]
		if h.File == "" || p.File != h.File {
			continue
		}
		var more []string
		if p.Refused != "" {
			more = append(more, "new binary refused")
		}
		if n := len(p.Draining); n > 0 {
			more = append(more, fmt.Sprintf("%d draining", n))
		}
		if len(more) > 0 {
			return h.State + " (" + strings.Join(more, ", ") + ")"
		}
	}
	return h.State
}

// shortSum is the beginning of a SHA-256: enough to tell builds apart.
func shortSum(sum string) string {
	const n = 12
	if r := []rune(sum); len(r) > n {
		return string(r[:n])
	}
	return orDash(sum)
}

// lasting is the time since t after what; empty if t is unknown.
func lasting(what string, now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return what + now.Sub(t).Round(time.Second).String()
}

// left is the time until t.
func left(now, t time.Time) string { return max(0, t.Sub(now)).Round(time.Second).String() }
