package main

import (
	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node"
)

func (c *cli) pinCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "pin [FILE...]",
		Short: "Say which binaries may run; the node need not run",
		Long: `Pins binaries by their SHA-256: a node that runs with --pinned-only starts no
others. Without FILE the pins are listed. They stand in the data directory's
plugin-pins, in the format of sha256sum. A running node takes a new pin within
half a minute, or at once by parley plugin restart. What runs is not ended when
its pin is removed.`,
		Example: "  parley plugin pin --data alice plugins/auction\n  parley plugin pin --data alice --remove auction",
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := c.dataDir()
			if err != nil {
				return err
			}
			var pins []node.Pin
			switch {
			case remove && len(args) == 0:
				return usagef("--remove: name the pins to remove, by SHA-256 or by name")
			case remove:
				pins, err = node.RemovePins(dir, args)
			case len(args) > 0:
				pins, err = node.AddPins(dir, args)
			default:
				pins, err = node.Pins(dir)
			}
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(listed(pins))
			}
			return c.print(pinTable(pins).String())
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "remove pins, by SHA-256 or by name")
	return cmd
}

func pinTable(pins []node.Pin) *table {
	t := newTable("SHA256", "NAME")
	for _, p := range pins {
		t.row(p.SHA256, p.Name)
	}
	return t
}
