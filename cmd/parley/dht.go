package main

import "github.com/spf13/cobra"

func (c *cli) dhtCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dht",
		Short:   "The DHT: where agents are found",
		Example: "  parley dht sim --nodes 1000 --hours 1",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.dhtSimCommand())
	return cmd
}
