package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRollout(t *testing.T) {
	t.Parallel()
	type step struct {
		at    time.Duration // since the start
		calls uint64
		do    string // "+name": it is activated; "!": the active one dies; "?": nothing
		want  string // "good", or "good <- back to it", and " on probation"
	}
	s := func(d int) time.Duration { return time.Duration(d) * time.Second }
	for name, steps := range map[string][]step{
		"the first has nothing to go back to": {{0, 0, "+a", "a"}, {0, 0, "!", "a"}, {0, 0, "!", "a"}},
		"the second crash":                    {{0, 0, "+a", "a"}, {s(1), 5, "+b", "a on probation"}, {s(2), 5, "!", "a on probation"}, {s(3), 5, "!", "a <- back on probation"}},
		"time and calls":                      {{0, 0, "+a", "a"}, {s(1), 5, "+b", "a on probation"}, {s(31), 24, "?", "a on probation"}, {s(31), 25, "?", "b"}, {s(32), 25, "!", "b"}},
		"calls before time":                   {{0, 0, "+a", "a"}, {s(1), 5, "+b", "a on probation"}, {s(2), 900, "?", "a on probation"}, {s(31), 900, "?", "b"}},
		"started again":                       {{0, 0, "+a", "a"}, {s(1), 5, "+b", "a on probation"}, {s(2), 5, "!", "a on probation"}, {s(9), 5, "+b", "a on probation"}, {s(31), 25, "?", "b"}},
		"a third":                             {{0, 0, "+a", "a"}, {s(1), 0, "+b", "a on probation"}, {s(2), 0, "!", "a on probation"}, {s(3), 0, "+c", "a on probation"}, {s(4), 0, "!", "a on probation"}, {s(5), 0, "!", "a <- back on probation"}},
		"back to the first":                   {{0, 0, "+a", "a"}, {s(1), 0, "+b", "a on probation"}, {s(2), 0, "+a", "a"}, {s(3), 0, "!", "a"}},
	} {
		var r rollout
		start := time.Unix(1_000_000, 0)
		for i, st := range steps {
			now, back := start.Add(st.at), ""
			switch st.do[0] {
			case '+':
				r.activate(now, st.do[1:], st.calls)
			case '!':
				back = r.crashed(now, st.calls, errors.New("cause"))
			case '?':
				r.passed(now, st.calls)
			}
			got := r.good
			if back != "" {
				got += " <- back"
				if back != r.good || r.refused(r.active) == nil || r.refused(back) != nil {
					t.Errorf("%s, step %d: back to %q of %+v", name, i, back, r)
				}
			}
			if _, on := r.onProbation(now, st.calls); on {
				got += " on probation"
			}
			if got != st.want {
				t.Errorf("%s, step %d: %q, want %q", name, i, got, st.want)
			}
		}
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	t.Parallel()
	var r rollout
	for i := range maxQuarantined + 10 {
		r.reject(time.Unix(int64(i), 0), fmt.Sprintf("%064x", i), errors.New("bad"))
	}
	if len(r.bad) != maxQuarantined || r.refused(fmt.Sprintf("%064x", 9)) != nil || r.refused(fmt.Sprintf("%064x", 10)) == nil {
		t.Errorf("%d are held", len(r.bad))
	}
	r.forgive(fmt.Sprintf("%064x", 10))
	if r.refused(fmt.Sprintf("%064x", 10)) != nil {
		t.Error("not forgiven")
	}
}

func TestRolloutFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.json")
	if r, err := loadRollout(path); err != nil || r.good != "" {
		t.Errorf("a missing file: %+v, %v", r, err)
	}
	want := rollout{good: strings.Repeat("ab", 32), bad: map[string]quarantined{}}
	want.reject(time.Unix(7, 0).UTC(), strings.Repeat("cd", 32), errors.New("it \"died\""))
	if err := want.save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := loadRollout(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for text, ok := range map[string]bool{`{"good":"../../../etc/passwd","quarantined":{"..":{}}}`: true, `{`: false, strings.Repeat(" ", maxRollFile+1): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := loadRollout(path)
		if (err == nil) != ok || got.good != "" || len(got.bad) != 0 {
			t.Errorf("%.40q: %+v, %v", text, got, err)
		}
	}
}
