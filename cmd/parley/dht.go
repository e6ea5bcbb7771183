package main

import "github.com/spf13/cobra"

func (c *cli) dhtCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dht",
		Short: "The DHT: where agents are found, and public entries",
		Example: `  parley dht get hash1… --dna auction --data bob
  parley dht sim --nodes 1000 --hours 1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.dhtGetCommand(), c.dhtSimCommand())
	c.addDHTLook(cmd)
	return cmd
}
