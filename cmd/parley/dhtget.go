package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func (c *cli) dhtGetCommand() *cobra.Command {
	var dna string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "get HASH",
		Short: "Find a public entry by the hash of its record",
		Long: `Finds the public entry of a DNA whose record has this hash, whoever its author is:
on the own chain, or in the DHT. What it prints was checked as a handler's Get is:
its hash, its author's signature, and by this node's handler of the DNA.

chain show --json tells the hashes of records. A private entry is found by nobody.`,
		Example:           "  parley dht get hash1… --dna auction --data bob",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeNothing),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTimeout(timeout); err != nil {
				return err
			}
			record, err := sdk.ParseHash(args[0])
			if err != nil {
				return &usageError{err}
			}
			if dna == "" {
				return usagef("name the DNA with --dna")
			}
			return c.connected(cmd.Context(), timeout, func(ctx context.Context, n *control.Client) error {
				r, err := n.GetEntry(ctx, dna, record)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(recordsJSON([]sdk.Record{r})[0])
				}
				return c.print(entryText(&r))
			})
		},
	}
	cmd.Flags().StringVar(&dna, "dna", "", "the DNA's name or hash")
	timeoutFlag(cmd.Flags(), &timeout, peerTimeout)
	if err := cmd.RegisterFlagCompletionFunc("dna", c.complete(completeDNA)); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

func entryText(r *sdk.Record) string {
	h := &r.Header
	t := newTable()
	t.row("record", r.Hash().String())
	t.row("author", h.Author.String())
	t.row("number", fmt.Sprint(h.Seq))
	t.row("time", clock(h.Time))
	t.row("type", h.EntryType)
	t.row("entry", contentText(r.Content))
	return t.String()
}
