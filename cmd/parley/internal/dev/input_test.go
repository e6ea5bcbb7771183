package dev

import "testing"

var agents = map[string]string{"alice": "agent1a", "bob": "agent1b"}

func TestParse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]request{
		"":                                      {},
		"   \t":                                 {},
		"help":                                  {command: "help"},
		" quit ":                                {command: "quit"},
		"alice read":                            {node: "alice", function: "read"},
		`  bob   greet   "@alice" `:             {node: "bob", function: "greet", input: `"agent1a"`},
		`alice f {"to": "@bob", "t": "a  b"}`:   {node: "alice", function: "f", input: `{"to": "agent1b", "t": "a  b"}`},
		`alice f ["@bob","@carol","x @bob"]`:    {node: "alice", function: "f", input: `["agent1b","@carol","x @bob"]`},
		`alice f {"@bob": 1.50, "q": "\"@bob"}`: {node: "alice", function: "f", input: `{"agent1b": 1.50, "q": "\"@bob"}`},
		`alice f "\u0040bob"`:                   {node: "alice", function: "f", input: `"agent1b"`},
		`alice f "@bob`:                         {node: "alice", function: "f", input: `"@bob`},
		`alice f "\`:                            {node: "alice", function: "f", input: `"\`},
		`alice f @bob`:                          {node: "alice", function: "f", input: `@bob`},
	} {
		if got, err := parse(line, agents); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", line, got, err, want)
		}
	}
	for _, line := range []string{"carol read", "alice", "help me", "@bob f"} {
		if got, err := parse(line, agents); err == nil {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// FuzzParse: no line breaks the parser, and what holds no name stays as it is.
func FuzzParse(f *testing.F) {
	for _, line := range []string{`alice f {"a": "@bob"}`, `alice f "\`, `bob g [1, "\\"]`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		_, _ = parse(line, agents)
		if got := substitute(line, nil); got != line {
			t.Errorf("%q became %q", line, got)
		}
	})
}
