// Command board is a board that several people write on at the same time. Each keeps
// what everybody wrote on the own chain; whoever has seen the same moves sees the same
// board, in whichever order they came.
package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// size is the board's width and height.
const size = 8

// Move writes a mark into a cell. Clock is a Lamport clock: one more than any that
// its author had seen. Of two moves in one cell the later clock wins, and of equal
// clocks the greater id, so that everybody comes to the same board.
type Move struct {
	ID     sdk.MessageID `json:"id"`   // of the call that made it
	Cell   string        `json:"cell"` // such as "c4"
	Mark   string        `json:"mark"` // one letter; empty wipes the cell
	Clock  uint64        `json:"clock"`
	Author sdk.AgentID   `json:"author"`
}

func (m Move) check() error {
	if len(m.Cell) != 2 || m.Cell[0] < 'a' || m.Cell[0] >= 'a'+size || m.Cell[1] < '1' || m.Cell[1] >= '1'+size {
		return sdk.Fail("board.cell", "cell %.10q: a1 to %c%c", m.Cell, 'a'+size-1, '0'+size)
	}
	if len([]rune(m.Mark)) > 1 || len(m.Mark) > 4 {
		return sdk.Fail("board.mark", "a mark is one letter, or nothing")
	}
	return nil
}

func (m Move) beats(o Move) bool {
	if m.Clock != o.Clock {
		return m.Clock > o.Clock
	}
	return slices.Compare(m.ID[:], o.ID[:]) > 0
}

// Put is what a client writes.
type Put struct {
	Cell string        `json:"cell"`
	Mark string        `json:"mark"`
	With []sdk.AgentID `json:"with"` // who else has the board
}

// Board is what everybody sees.
type Board struct {
	Rows  []string `json:"rows"` // from row 8 down to row 1
	Moves int      `json:"moves"`
}

// moves reads all that this chain has seen.
func moves(c *sdk.Context) (all []Move, clock uint64, err error) {
	for r, err := range sdk.All[Move](c, sdk.Query{Type: "move", Limit: 1000}) {
		if err != nil {
			return nil, 0, err
		}
		all, clock = append(all, r.Value), max(clock, r.Value.Clock)
	}
	return all, clock, nil
}

// put writes at once, whoever can be reached, and tells the others.
func put(c *sdk.Context, in Put) (Move, error) {
	_, clock, err := moves(c)
	if err != nil {
		return Move{}, err
	}
	m := Move{ID: c.MessageID(), Cell: in.Cell, Mark: in.Mark, Clock: clock + 1, Author: c.Agent()}
	if err := m.check(); err != nil {
		return Move{}, err
	}
	if _, err := c.Commit("move", m); err != nil {
		return Move{}, err
	}
	return m, sdk.Notify(c, in.With, []Move{m})
}

// see takes moves of others, those of third ones included.
func see(c *sdk.Context, list []Move) error {
	known, _, err := moves(c)
	if err != nil {
		return err
	}
	seen := map[sdk.MessageID]bool{}
	for _, m := range known {
		seen[m.ID] = true
	}
	for _, m := range list {
		if err := m.check(); err != nil {
			return err
		}
		if seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		if _, err := c.Commit("move", m); err != nil {
			return err
		}
		if err := c.Emit(m); err != nil {
			return err
		}
	}
	return nil
}

// sync makes two boards the same, whatever either has missed.
func syncWith(c *sdk.Context, other sdk.AgentID) (Board, error) {
	mine, _, err := moves(c)
	if err != nil {
		return Board{}, err
	}
	theirs, err := sdk.Send[[]Move](c, other, mine)
	if err != nil {
		return Board{}, err
	}
	if err := see(c, theirs); err != nil {
		return Board{}, err
	}
	return draw(append(mine, theirs...)), nil
}

// receive is the other side of it: it takes what is new, and gives what it has.
func receive(c *sdk.Context, theirs []Move) ([]Move, error) {
	mine, _, err := moves(c)
	if err != nil {
		return nil, err
	}
	return mine, see(c, theirs)
}

func show(c *sdk.Context, _ struct{}) (Board, error) {
	all, _, err := moves(c)
	return draw(all), err
}

// draw depends on the set of moves alone, not on their order.
func draw(all []Move) Board {
	cells, seen := map[string]Move{}, map[sdk.MessageID]bool{}
	for _, m := range all {
		seen[m.ID] = true
		if old, ok := cells[m.Cell]; !ok || m.beats(old) {
			cells[m.Cell] = m
		}
	}
	b := Board{Moves: len(seen)}
	for row := byte('0' + size); row > '0'; row-- {
		var line strings.Builder
		for col := byte('a'); col < 'a'+size; col++ {
			line.WriteString(cmp.Or(cells[string([]byte{col, row})].Mark, "·"))
		}
		b.Rows = append(b.Rows, line.String())
	}
	return b
}

var dna = sdk.Define("board", "1", sdk.Function("put", put), sdk.Function("sync", syncWith), sdk.Function("show", show),
	sdk.Receive(receive), sdk.Notified(see))

func main() { serve.Main(dna) }
