package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func (c *cli) watchCommand() *cobra.Command {
	var q control.WatchQuery
	var count int
	cmd := &cobra.Command{
		Use:   "watch DNA",
		Short: "Show what a DNA's handler signals, as it comes",
		Long: `Shows the signals that a DNA's handler emits from now on: a line of JSON for each.
With --json each line has the signal's number and time, too. It goes on until
Ctrl-C, or until the node stops, which is exit code 3.

The node keeps --buffer signals, of 1 MiB together, for one who does not read them
in time. Then the oldest are lost, and it is said how many.`,
		Example:           "  parley watch --data bob presence\n  parley watch --data bob presence --json --count 1",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 || q.Buffer < 0 {
				return usagef("--count, --buffer: less than 0")
			}
			q.DNA = args[0]
			return c.connected(cmd.Context(), 0, func(ctx context.Context, n *control.Client) error {
				err := n.Watch(ctx, q, c.signalPrinter(count))
				switch {
				case errors.Is(err, errEnough), errors.Is(ctx.Err(), context.Canceled): // Ctrl-C is how it ends
					return nil
				case err == nil:
					return errNodeStopped
				}
				return err
			})
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "end after so many signals; 0: never")
	cmd.Flags().IntVar(&q.Buffer, "buffer", 0, "signals that the node keeps for this command; 0: 1024")
	return cmd
}

var errEnough = errors.New("enough")

// watched is a signal as --json prints it.
type watched struct {
	control.Signal
	Value   json.RawMessage `json:"value,omitempty"`
	Payload []byte          `json:"payload,omitempty"` // where it has no JSON form
}

// signalPrinter prints each signal as it comes, and fails with errEnough after count.
func (c *cli) signalPrinter(count int) func(control.Signal) error {
	seen := 0
	return func(s control.Signal) error {
		if s.Began {
			fmt.Fprintf(c.errOut, "watching %s\n", cleanLine(s.DNA))
			return nil
		}
		if err := c.printSignal(&s); err != nil {
			return err
		}
		if seen++; seen == count {
			return errEnough
		}
		return nil
	}
}

func (c *cli) printSignal(s *control.Signal) error {
	value, err := sdk.PayloadToJSON(s.Payload)
	switch {
	case c.json && err == nil:
		return c.printJSON(watched{Signal: *s, Value: value})
	case c.json:
		return c.printJSON(watched{Signal: *s, Payload: s.Payload})
	}
	if s.Lost > 0 {
		fmt.Fprintf(c.errOut, "%d signals were lost: this came too slowly\n", s.Lost)
	}
	if err != nil {
		fmt.Fprintf(c.errOut, "a signal of %d bytes has no JSON form: see it with --json\n", len(s.Payload))
		return nil
	}
	return c.print(strings.ReplaceAll(cleanJSON(value), "\n", " ") + "\n")
}

func (c *cli) onlineCommand() *cobra.Command {
	return c.peerCommand("online", "Show whether an agent can be heard, and when it last was",
		`Shows whether an agent can be heard over a live session, and when it last was. It
asks nobody: an agent with whom there is no session is not online here, though it
may be running. To find out, ping it.`,
		func(ctx context.Context, n *control.Client, agent sdk.AgentID) error {
			p, err := n.Online(ctx, agent)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(presence{agent, p.Online, p.LastHeard})
			}
			state := "not online"
			if p.Online {
				state = "online"
			}
			return c.print(fmt.Sprintf("%s is %s, last heard %s\n", agent, state, ago(time.Now(), p.LastHeard)))
		})
}

// presence is an agent's as --json prints it.
type presence struct {
	Agent     sdk.AgentID `json:"agent"`
	Online    bool        `json:"online"`
	LastHeard time.Time   `json:"last_heard,omitzero"`
}
