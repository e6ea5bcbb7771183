package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const auctionPackage = "github.com/parley-p2p/parley/examples/auction"

// build makes the plugin directory that all five nodes use.
func (d *demo) build(ctx context.Context) error {
	plugins := filepath.Join(d.dir, "plugins")
	if err := os.Mkdir(plugins, 0o700); err != nil {
		return err
	}
	target := filepath.Join(plugins, "auction")
	if d.opts.Auction != "" {
		if err := copyFile(d.opts.Auction, target); err != nil {
			return fmt.Errorf("--auction: %w", err)
		}
		d.printf("   taken from %s\n", d.opts.Auction)
		return nil
	}
	began := time.Now()
	out, err := d.goCommand(ctx, "list", "-f", "{{.Dir}}", auctionPackage)
	if err != nil {
		return fmt.Errorf("%s can't be found from here: run the demo in a clone of the repository, with Go installed, "+
			"or name a built handler with --auction (%w: %.300s)", auctionPackage, err, out)
	}
	if out, err = d.goCommand(ctx, "build", "-o", target, auctionPackage); err != nil {
		return fmt.Errorf("go build %s: %w: %s", auctionPackage, err, out)
	}
	d.printf("   go build %s: %.1f s\n", auctionPackage, time.Since(began).Seconds())
	return nil
}

func (d *demo) goCommand(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go removes its own temporary files
	cmd.WaitDelay = 5 * time.Second
	return cmd.CombinedOutput()
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
