package main

import "github.com/spf13/cobra"

func (c *cli) dhtCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dht",
		Short: "The DHT: where agents are found",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.dhtSimCommand())
	c.addDHTLook(cmd)
	return cmd
}
