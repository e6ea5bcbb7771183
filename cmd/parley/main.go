package main

import (
	"io"
	"os"
	"slices"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command and returns its exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	c := &cli{in: in, out: out, errOut: errOut}
	root := c.root()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	// A command line that can't be parsed may still say how it wants its error.
	asJSON := c.json || slices.Contains(args, "--json")
	printError(errOut, err, asJSON)
	return exitCode(err)
}
