package transport

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever forgets idle connections on the way, and whatever was taken for granted, the
// sessions soon beat as seldom as they survive, and live.
func TestLearnsWhatIdleConnectionsSurvive(t *testing.T) {
	const peers = 10
	for name, c := range map[string]struct {
		dialable bool
		forgets  time.Duration // 0: nothing does
		beat     time.Duration // that is learned
		dials    int           // at most: those of the beginning and those of trials, up to 6 of which fail each hour
	}{
		"dialable":                       {dialable: true, beat: maxQuiet, dials: peers},
		"dialable, forgotten in 10 min":  {dialable: true, forgets: 10 * time.Minute, beat: underFour, dials: 4 * peers},
		"dialable, forgotten in 2 min":   {dialable: true, forgets: 2 * time.Minute, beat: 100 * time.Second, dials: 6 * peers},
		"behind what forgets nothing":    {beat: maxQuiet, dials: peers},
		"behind what forgets in an hour": {forgets: time.Hour, beat: maxQuiet, dials: peers},
		"behind what forgets in 5 min":   {forgets: 5 * time.Minute, beat: underFour, dials: 4 * peers},
		"behind what forgets in 2 min":   {forgets: 2 * time.Minute, beat: 100 * time.Second, dials: 4 * peers},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				n.forgets = c.forgets
				background := func(c *Config) { c.Background, c.BackgroundIdle = 1, 24*time.Hour }
				a := memNode(t, n, 1, nil, background)
				a.Dialable(c.dialable)
				nodes := []*node{a}
				for i := range peers {
					b := memNode(t, n, i+2, nil, background)
					b.Dialable(true)
					nodes = append(nodes, b)
				}
				dials := 0
				dial := func() {
					for _, b := range nodes[1:] {
						if _, live := a.Live(b.key()); live {
							continue
						}
						dials++
						if _, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{b.Addr()}); err != nil {
							t.Fatal(err)
						}
					}
				}
				time.Sleep(300 * time.Millisecond) // sessions are looked at every second, never when this one looks
				for range 4 * 60 {
					dial()
					time.Sleep(time.Minute)
				}
				dial() // some may just have failed on trial
				if dials > c.dials {
					t.Errorf("%d dials, at most %d", dials, c.dials)
				}
				seldom, trials := 0, 0
				for _, i := range a.Sessions() {
					switch {
					case i.Beat == c.beat:
						seldom++
					case i.Beat > c.beat:
						trials++
					}
				}
				if seldom+trials != peers || trials > lastingTrials {
					t.Errorf("%d of %d beat every %s, %d more seldom", seldom, peers, c.beat, trials)
				}
				stopAll(nodes...)
			})
		})
	}
}

// Peers that vanish now and then, goodbyes, and sessions that are never idle teach nothing.
func TestWhatTeachesNothing(t *testing.T) {
	t.Parallel()
	var times Times = Config{}.withDefaults().Times
	var l lasting
	l.dialable(true)
	for i := range 40 {
		for range 4 {
			l.survived(&times, times.BackgroundPingAfter-beatsFirst)
		}
		l.ended(&times, int64(i), times.BackgroundPingAfter-beatsFirst, false)
		l.ended(&times, int64(i), times.PingAfter, false) // in use
	}
	if l.level != lastingMost {
		t.Errorf("level %d", l.level)
	}
	for range lastingProof {
		l.ended(&times, 0, times.BackgroundPingAfter, false)
	}
	if l.level != lastingMost-1 {
		t.Errorf("the control: level %d", l.level)
	}
	if l.take(int64(lastingRetry) - 1) {
		t.Error("a trial so soon")
	}
	for i := range lastingTrials + 1 {
		if l.take(int64(lastingRetry)) != (i < lastingTrials) {
			t.Errorf("trial %d", i)
		}
	}
}

// Where most connections are forgotten, those that are not (within the own network, over
// another family of addresses, of a peer that keeps them alive) teach nothing about the others.
func TestFewThatSurviveProveNothing(t *testing.T) {
	t.Parallel()
	var times Times = Config{}.withDefaults().Times
	for _, c := range []struct {
		live, die int // of those on trial, in turn
		level     int
	}{
		{live: 1, die: 2, level: 0},
		{live: 1, die: 1, level: 0},
		{live: 3, die: 1, level: 1},
		{live: 1, die: 0, level: 1},
	} {
		var l lasting
		for i := range 40 {
			for range c.die {
				l.ended(&times, int64(i), underFour, true)
			}
			for range c.live {
				l.survived(&times, underFour-beatsFirst)
			}
		}
		if l.level != c.level {
			t.Errorf("%d of %d live: level %d, want %d", c.live, c.live+c.die, l.level, c.level)
		}
	}
}

// What sessions have survived, or died of, is not forgotten when the node can be dialled, or no longer can.
func TestLearnedStands(t *testing.T) {
	t.Parallel()
	var times Times = Config{}.withDefaults().Times
	const dialable, not, live, die, dieOnTrial, dieQuiet = "dialable", "not", "3 live on trial", "3 die", "3 die on trial", "3 die that were quiet as a dialable node's are"
	for _, c := range []struct {
		steps []string
		level int
	}{
		{nil, 0},
		{[]string{dialable}, 2},
		{[]string{dialable, not}, 0},
		{[]string{dialable, not, dialable}, 2},
		{[]string{dialable, die}, 1},
		{[]string{dialable, die, not}, 0},
		{[]string{dialable, die, not, dialable}, 1},
		{[]string{dialable, die, die, not, dialable}, 0},
		{[]string{dialable, die, live, not, dialable}, 2},
		{[]string{dialable, die, live, not}, 2},
		{[]string{dialable, not, dieQuiet}, 0},
		{[]string{dialable, not, dieQuiet, dialable}, 2},
		{[]string{dieOnTrial, dialable}, 0},
		{[]string{dieOnTrial, live, dialable}, 2},
		{[]string{live, dialable}, 2},
		{[]string{live, dialable, not}, 1},
		{[]string{live, dieOnTrial, dialable}, 1},
		{[]string{live, live, die, dialable, not}, 1},
		{[]string{live, live, die, die, dialable, not}, 0},
		{[]string{live, live, dialable, die, not, dialable}, 1},
	} {
		var l lasting
		for _, s := range c.steps {
			for range lastingProof {
				switch s {
				case live:
					l.survived(&times, times.beat(l.level+1))
				case die:
					l.ended(&times, 0, times.beat(l.level), false)
				case dieQuiet:
					l.ended(&times, 0, times.BackgroundPingAfter, false)
				case dieOnTrial:
					l.ended(&times, 0, times.beat(l.level+1), true)
				}
				if s != dieOnTrial && s != dieQuiet && l.lived+l.died == 0 {
					break // it has taken the step
				}
			}
			if s == dialable || s == not {
				l.dialable(s == dialable)
			}
		}
		if l.level != c.level {
			t.Errorf("%q: level %d, want %d", c.steps, l.level, c.level)
		}
	}
}
