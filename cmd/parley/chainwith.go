package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
)

// verifyWith holds one chain against another agent's export. name is a file, if
// there is one of that name, else a DNA of the running node.
func (c *cli) verifyWith(ctx context.Context, name, with string, isFile bool) error {
	if name == "-" && with == "-" {
		return usagef("only one of the two can be stdin")
	}
	other, err := c.openExport(with)
	if err != nil {
		return err
	}
	defer other.Close()
	if _, err := os.Stat(name); isFile || err == nil {
		own, err := c.openExport(name)
		if err != nil {
			return err
		}
		defer own.Close()
		return c.printMatch(own, other)
	}
	return c.connected(ctx, wholeChainTimeout, func(ctx context.Context, n *control.Client) error {
		r, w := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.CloseWithError(n.ExportChain(ctx, name, control.ExportOptions{Receipts: true}, w))
		}()
		err := c.printMatch(r, other)
		r.Close()
		<-ended
		return err
	})
}

func (c *cli) openExport(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.in), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &usageError{err}
	}
	return f, nil
}

// mismatchError is two chains that do not hold the same exchanges.
type mismatchError struct{ m control.MatchResult }

func (e *mismatchError) Error() string {
	m := &e.m
	if m.Reason != "" {
		return "the chains can't be held against one another: " + m.Reason
	}
	what := []string{}
	for _, p := range []struct {
		n    int
		text string
	}{{m.OnlyA, "only on the first chain"}, {m.OnlyB, "only on the second"}, {m.Wrong, "on both, and different"},
		{m.Withheld, "with a receipt that neither file holds: export with --receipts"}} {
		if p.n > 0 {
			what = append(what, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	return fmt.Sprintf("the chains do not hold the same exchanges: %d match, %s", m.Matched, strings.Join(what, ", "))
}

func (c *cli) printMatch(a, b io.Reader) error {
	m, err := node.MatchExports(a, b)
	if err != nil {
		return err
	}
	if c.json {
		m.Exchanges = listed(m.Exchanges)
		if err := c.printJSON(m); err != nil {
			return err
		}
	}
	const advice = "make the export anew, or get another copy of the file"
	for _, v := range []control.VerifyResult{m.A, m.B} {
		if !v.Valid {
			return &damagedError{v, advice}
		}
	}
	if !c.json && m.Reason == "" {
		if err := c.print(matchText(&m)); err != nil {
			return err
		}
	}
	if !m.Whole() {
		return &mismatchError{m}
	}
	return nil
}

func matchText(m *control.MatchResult) string {
	t := newTable("STATE", "TIME", "FROM", "TO", "FUNCTION", "MESSAGE", "REQUEST", "REPLY", "RECORDS")
	for i := range m.Exchanges {
		x := &m.Exchanges[i]
		function := x.Function
		if function == "" {
			function = "-"
		}
		t.row(x.State, x.Time.Format("2006-01-02 15:04:05.000"), x.From.Short(), x.To.Short(), function, x.Message.String(),
			x.Payload.String(), x.Reply.String(), seqText(x.SeqA)+" / "+seqText(x.SeqB))
	}
	text := t.String()
	if len(m.Exchanges) == 0 {
		text = ""
	}
	text += fmt.Sprintf("a: %d records of %s, b: %d records of %s: %d exchanges on both, %d only on a, %d only on b, %d different",
		m.A.Records, m.A.Author, m.B.Records, m.B.Author, m.Matched, m.OnlyA, m.OnlyB, m.Wrong)
	if m.Others > 0 {
		text += fmt.Sprintf("; %d receipts are of exchanges with others", m.Others)
	}
	return text + "\n"
}

func seqText(seq uint64) string {
	if seq == 0 {
		return "-"
	}
	return fmt.Sprint(seq)
}
