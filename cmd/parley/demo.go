package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/cmd/parley/internal/demo"
)

var errInterrupted = errors.New("the demo was interrupted and has stopped its nodes")

func (c *cli) demoCommand() *cobra.Command {
	var auction string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a silent auction among five nodes on this machine",
		Long: `Builds the auction handler, starts five nodes with their own data directories on
loopback, and walks one bid from Alice, who knows no more of Bob than his key,
to Bob's source chain and back. Then it kills Bob's handler in the middle of a
receive. It ends by itself and leaves nothing behind.

It builds the handler from source: run it in a clone of the repository, or name a
handler that was built before with --auction.`,
		Example: "  go run ./cmd/parley demo",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("demo: find this program: %w", err)
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			err = demo.Run(ctx, demo.Options{Parley: self, Auction: auction, Out: c.out})
			if ctx.Err() != nil && err != nil {
				return fmt.Errorf("%w (%w)", errInterrupted, err)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&auction, "auction", "", "a built auction handler; without it the demo builds one")
	return cmd
}
