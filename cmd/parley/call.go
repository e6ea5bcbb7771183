package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// maxInput is the most that is read from stdin: no node takes more.
const maxInput = 1 << 30

func (c *cli) callCommand() *cobra.Command {
	var timeout time.Duration
	var raw bool
	cmd := &cobra.Command{
		Use:   "call DNA FUNCTION [JSON]",
		Short: "Call a function of a DNA",
		Long: `Calls a function of a DNA of this node and prints its answer as JSON. The input is
one JSON value; - reads it from stdin. With --raw, input and answer are bytes as
the handler sees them. Ctrl-C cancels the call.`,
		Example: `  parley call --data alice auction highest '"a lamp"'
  echo '{"to": "agent1…", "item": "a lamp", "amount": 50}' | parley call --data alice auction place_bid -`,
		Args:              argsBetween(2, 3),
		ValidArgsFunction: c.complete(completeFunction),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTimeout(timeout); err != nil {
				return err
			}
			payload, err := c.payload(args[2:], raw)
			if err != nil {
				return err
			}
			return c.connected(cmd.Context(), timeout, func(ctx context.Context, n *control.Client) error {
				reply, err := n.Call(ctx, args[0], args[1], payload)
				if err != nil {
					return err
				}
				return c.printReply(reply, raw)
			})
		},
	}
	timeoutFlag(cmd.Flags(), &timeout, node.DefaultDeadline)
	cmd.Flags().BoolVar(&raw, "raw", false, "input and answer are bytes, not JSON")
	return cmd
}

func timeoutFlag(f *pflag.FlagSet, timeout *time.Duration, value time.Duration) {
	f.DurationVar(timeout, "timeout", value, "how long to wait at most")
}

func checkTimeout(d time.Duration) error {
	if d <= 0 {
		return usagef("--timeout: %s is no time to wait", d)
	}
	return nil
}

// payload makes the function's input of what the command line says.
func (c *cli) payload(arg []string, raw bool) ([]byte, error) {
	if len(arg) == 0 {
		return nil, nil
	}
	text := []byte(arg[0])
	if arg[0] == "-" {
		var err error
		if text, err = io.ReadAll(io.LimitReader(c.in, maxInput+1)); err != nil {
			return nil, fmt.Errorf("read stdin: %w", err)
		}
		if len(text) > maxInput {
			return nil, usagef("stdin: more than %d bytes, which no node takes", maxInput)
		}
	}
	if raw {
		return text, nil
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, usagef("input: it is empty; leave it out to call a function without input")
	}
	if !utf8.Valid(text) { // JSON's decoder would put U+FFFD into the value
		return nil, usagef("input: it is not UTF-8; use --raw for bytes")
	}
	payload, err := sdk.PayloadFromJSON(text)
	if err != nil {
		return nil, usagef("input: %w", err)
	}
	return payload, nil
}

func (c *cli) printReply(reply []byte, raw bool) error {
	if raw {
		if _, err := c.out.Write(reply); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	text, err := sdk.PayloadToJSON(reply)
	if err != nil {
		return fmt.Errorf("the function returned, but its answer has no JSON form: %w; see it with --raw", err)
	}
	if c.json {
		return c.print(cleanJSON(text) + "\n")
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("print answer: %w", err)
	}
	return c.print(cleanJSON(b.Bytes()) + "\n")
}
