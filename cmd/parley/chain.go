package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// wholeChainTimeout bounds what walks a chain of any length.
const wholeChainTimeout = time.Hour

func (c *cli) chainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chain",
		Short: "Read, check and export source chains",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.chainListCommand(), c.chainShowCommand(), c.chainVerifyCommand(), c.chainExportCommand())
	return cmd
}

func (c *cli) chainListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the source chains",
		Example: "  parley chain list --data alice",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				list, err := n.Chains(ctx)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(listed(list))
				}
				t := newTable("DNA", "INTEGRITY", "RECORDS", "HASH", "HEAD")
				for _, i := range list {
					t.row(i.DNA, i.Integrity, fmt.Sprint(i.Records), i.Hash.String(), i.Head.String())
				}
				return c.print(t.String())
			})
		},
	}
}

func (c *cli) chainShowCommand() *cobra.Command {
	var q sdk.Query
	cmd := &cobra.Command{
		Use:               "show DNA",
		Short:             "Show records of a source chain",
		Example:           "  parley chain show auction --data bob --type bid --reverse --limit 10",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				records, err := n.Chain(ctx, args[0], q)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(recordsJSON(records))
				}
				return c.print(recordsText(records))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Type, "type", "", "entries of this type only")
	f.Uint64Var(&q.From, "from", 0, "first record's number")
	f.Uint64Var(&q.To, "to", 0, "number of the record before which to stop; 0: the end")
	f.BoolVar(&q.Reverse, "reverse", false, "the newest first")
	f.IntVar(&q.Limit, "limit", 100, "most records, up to 1000")
	return cmd
}

func (c *cli) chainVerifyCommand() *cobra.Command {
	var file, with string
	cmd := &cobra.Command{
		Use:   "verify DNA | verify --file FILE | verify DNA-OR-FILE --with FILE",
		Short: "Check a whole source chain, or an exported one, or two against one another",
		Long: `Checks every record of a source chain: format, hash, link, number, author and
signature. It names the first record that is wrong, with exit code 1. An exported
chain is checked from its file (- is stdin); no node need run.

With --with it also finds, by their matching receipts, the exchanges between the
authors of two chains, and says of each whether both chains hold it: proof that
both agents have signed the same request and the same answer. Both exports have to
hold the receipts (parley chain export --receipts), or at least one of them. Exit
code 0 means that each exchange stands on both.`,
		Example: `  parley chain verify auction --data bob
  parley chain verify --file bids.chain
  parley chain verify alice.chain --with bob.chain`,
		Args:              argsBetween(0, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (file == "") == (len(args) == 0) {
				return usagef("name either a DNA or a --file")
			}
			if with != "" {
				return c.verifyWith(cmd.Context(), append(args, file)[0], with, file != "")
			}
			if file != "" {
				return c.verifyFile(file)
			}
			return c.connected(cmd.Context(), wholeChainTimeout, func(ctx context.Context, n *control.Client) error {
				v, err := n.VerifyChain(ctx, args[0])
				if err != nil {
					return err
				}
				return c.printVerified(v, "stop the node and put back a copy of the chain's file from a backup; parley status names it")
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "an exported chain; - is stdin")
	cmd.Flags().StringVar(&with, "with", "", "another agent's exported chain: which exchanges do both hold?")
	return cmd
}

func (c *cli) verifyFile(name string) error {
	r := c.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return &usageError{err}
		}
		defer f.Close()
		r = f
	}
	v, err := node.VerifyExport(r)
	if err != nil {
		return err
	}
	return c.printVerified(v, "make the export anew, or get another copy of the file")
}

// damagedError is a chain that is not what its author wrote.
type damagedError struct {
	v      control.VerifyResult
	advice string
}

func (e *damagedError) Error() string {
	if e.v.Author.IsZero() && e.v.Records == 0 {
		return fmt.Sprintf("no chain could be read: %s; %s", e.v.Reason, e.advice)
	}
	return fmt.Sprintf("the chain is damaged: record %d is the first wrong one: %s; %s", e.v.Wrong, e.v.Reason, e.advice)
}

func (c *cli) printVerified(v control.VerifyResult, advice string) error {
	if c.json {
		if err := c.printJSON(v); err != nil {
			return err
		}
	}
	if !v.Valid {
		return &damagedError{v, advice}
	}
	if c.json {
		return nil
	}
	withheld := ""
	if v.Withheld > 0 {
		withheld = fmt.Sprintf(", %d entries withheld", v.Withheld)
	}
	return c.print(fmt.Sprintf("valid: %d records of %s by %s%s, head %s\n", v.Records, cleanLine(v.DNA), v.Author, withheld, v.Head))
}

func (c *cli) chainExportCommand() *cobra.Command {
	var output string
	var o control.ExportOptions
	cmd := &cobra.Command{
		Use:   "export DNA",
		Short: "Write a source chain to a file that others can check",
		Long: `Writes a source chain, without the content of its private entries, to a file that
anybody can check with parley chain verify --file. A file that is there already
is not replaced. With --private the file holds the private entries too: an
archive for yourself, not to be handed to others. With --receipts it holds the
matching receipts, which are hashes and signatures: enough for parley chain verify
--with to prove which exchanges another agent's chain holds too.

An export can be read and checked, not run. What a node can be restored from is
a copy of its whole data directory, made while the node is stopped.`,
		Example: `  parley chain export auction --data bob --output bids.chain
  parley chain export auction --data bob --private --output archive.chain`,
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.connected(cmd.Context(), wholeChainTimeout, func(ctx context.Context, n *control.Client) error {
				export := func(w io.Writer) error { return n.ExportChain(ctx, args[0], o, w) }
				if output != "" {
					return writeWhole(output, export)
				}
				if isTerminal(c.out) {
					return usagef("an export is no text: name a file with --output, or redirect stdout")
				}
				return export(c.out)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; without it stdout")
	cmd.Flags().BoolVar(&o.Private, "private", false, "with the content of private entries")
	cmd.Flags().BoolVar(&o.Receipts, "receipts", false, "with the content of matching receipts")
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) // only a terminal has a size
	return err == nil
}

// writeWhole makes the file path of what write writes, wholly or not at all.
func writeWhole(path string, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return exists(path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer os.Remove(tmp.Name())
	err = write(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	// Unlike a rename a link never replaces a file; not every file system has links.
	err = os.Link(tmp.Name(), path)
	switch _, statErr := os.Lstat(path); {
	case err == nil:
		return nil
	case statErr == nil:
		return exists(path)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func exists(path string) error {
	return fmt.Errorf("export: %s is there already and is not replaced: name another file with --output", path)
}
