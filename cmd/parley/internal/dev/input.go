package dev

import (
	"encoding/json"
	"fmt"
	"strings"
)

// request is what a line asks for: a command, or a call.
type request struct {
	command  string // help, status, replace, quit; empty for a call
	node     string
	function string
	input    string // JSON; empty for none
}

// commands are the words that are no node's name.
var commands = []string{"help", "status", "replace", "quit"}

// parse reads a line: NODE FUNCTION [JSON], or a command. An empty one is the
// zero request.
func parse(line string, nodes map[string]string) (r request, err error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	if word == "" {
		return r, nil
	}
	for _, c := range commands {
		if word == c {
			if rest != "" {
				return r, fmt.Errorf("%s stands alone", c)
			}
			return request{command: c}, nil
		}
	}
	if _, ok := nodes[word]; !ok {
		return r, fmt.Errorf("no node or command %q; help tells what there is", word)
	}
	r.node = word
	r.function, r.input, _ = strings.Cut(rest, " ")
	if r.function == "" {
		return request{}, fmt.Errorf("name a function: %s FUNCTION [JSON]", word)
	}
	r.input = substitute(strings.TrimSpace(r.input), nodes)
	return r, nil
}

// substitute replaces each JSON string that equals "@" and a node's name by
// that node's AgentID. Everything else stays as it was typed.
func substitute(text string, agents map[string]string) string {
	var b strings.Builder
	for {
		begin := strings.IndexByte(text, '"')
		if begin < 0 {
			break
		}
		end := stringEnd(text, begin)
		b.WriteString(text[:begin])
		literal := text[begin:end]
		var s string
		if json.Unmarshal([]byte(literal), &s) == nil && strings.HasPrefix(s, "@") {
			if agent, ok := agents[s[1:]]; ok {
				literal = `"` + agent + `"`
			}
		}
		b.WriteString(literal)
		text = text[end:]
	}
	return b.String() + text
}

// stringEnd is the index after the string that begins at begin, or the text's end.
func stringEnd(text string, begin int) int {
	for i := begin + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}
