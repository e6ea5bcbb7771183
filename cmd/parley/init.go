package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/sdk"
)

func (c *cli) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "init",
		Short:   "Make the data directory and the agent's key, and print the AgentID",
		Long:    "Makes the data directory and the agent's key if they are not there, and prints\nthe AgentID. A key that is there is checked and never replaced.",
		Example: "  parley init --data alice",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := c.dataDir()
			if err != nil {
				return err
			}
			id, err := node.Init(dir)
			if err != nil {
				return err
			}
			return c.printID(id)
		},
	}
}

func (c *cli) idCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "id",
		Short:   "Print the AgentID; the node need not run",
		Example: "  parley id --data alice",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := c.dataDir()
			if err != nil {
				return err
			}
			id, err := node.ReadID(dir)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w; make one with parley init --data %s", err, dir)
			}
			if err != nil {
				return err
			}
			return c.printID(id)
		},
	}
}

func (c *cli) printID(id sdk.AgentID) error {
	if c.json {
		return c.printJSON(struct {
			Agent sdk.AgentID `json:"agent"`
		}{id})
	}
	return c.print(id.String() + "\n")
}
