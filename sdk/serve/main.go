package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// Main runs h as a handler process and exits. It is all that the main function
// of a handler does. What is printed before Main goes to the node's log; the
// standard logger, slog's and os.Stderr go there for the whole life.
func Main(h sdk.Handler) { os.Exit(run(h, os.Args, os.Getenv, os.Stdout, os.Stderr, servePlugin)) }

// run is Main without the process: it returns the exit code. node serves until
// the node is gone.
func run(h sdk.Handler, args []string, getenv func(string) string, stdout, stderr io.Writer,
	node func(sdk.Handler, int) int) int {
	if h == nil {
		fmt.Fprintln(stderr, "serve.Main: the handler is nil")
		return 1
	}
	if len(args) > 1 && (args[1] == "--describe" || args[1] == "-describe") {
		return describe(h, stdout, stderr)
	}
	if getenv(handlerpb.CookieKey) != handlerpb.CookieValue {
		usage(h, args, stderr)
		return 1
	}
	return node(h, maxPayload(getenv))
}

// describeTimeout bounds Describe where no node does.
const describeTimeout = 10 * time.Second

func describe(h sdk.Handler, stdout, stderr io.Writer) int {
	d, err := description(h)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if d.Functions == nil {
		d.Functions = []string{}
	}
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if _, err := fmt.Fprintln(stdout, string(out)); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// description asks h and fills in what the SDK knows better.
func description(h sdk.Handler) (sdk.Description, error) {
	ctx, cancel := context.WithTimeout(context.Background(), describeTimeout)
	defer cancel()
	d, err := h.Describe(ctx)
	if err != nil {
		return d, fmt.Errorf("describe: %w", err)
	}
	return complete(d), handlerpb.CheckDescription(new(complete(d)))
}

func complete(d sdk.Description) sdk.Description {
	if d.Protocol == 0 {
		d.Protocol = handlerpb.Protocol
	}
	if d.SDK == "" {
		d.SDK = sdkVersion()
	}
	return d
}

// sdkVersion is the version of this module that the program was built with.
func sdkVersion() string {
	const module = "github.com/parley-p2p/parley"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "go"
	}
	if info.Main.Path == module {
		return "go " + info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return "go " + m.Version
		}
	}
	return "go"
}

func usage(h sdk.Handler, args []string, w io.Writer) {
	program := "handler"
	if len(args) > 0 {
		program = filepath.Base(args[0])
	}
	fmt.Fprintf(w, "%s is a parley handler. A parley node starts it; by itself it does nothing.\n\n", program)
	if d, err := description(h); err != nil {
		fmt.Fprintf(w, "  No node will take it: %v\n\n", err)
	} else {
		fmt.Fprint(w, inWords(&d))
	}
	fmt.Fprintf(w, `  To run it:   put this file into a directory and start a node with it:
                 parley run --plugins DIRECTORY
  To work on it:
                 parley dev DIRECTORY OF ITS SOURCE
  To see it:   %s --describe     prints its description as JSON
`, program)
}

// inWords is a description for people.
func inWords(d *sdk.Description) string {
	functions, receives := "none", "no messages"
	if len(d.Functions) > 0 {
		functions = strings.Join(d.Functions, ", ")
	}
	if d.Receives {
		receives = "messages of other agents"
	}
	return fmt.Sprintf("  DNA %q, integrity version %q, made with SDK %s\n  functions:   %s\n  receives:    %s\n\n",
		d.Name, d.Integrity, d.SDK, functions, receives)
}

// maxPayload reads the node's payload limit.
func maxPayload(getenv func(string) string) int {
	n, err := strconv.Atoi(getenv(handlerpb.EnvMaxPayload))
	if err != nil || n <= 0 {
		return handlerpb.DefaultMaxPayload
	}
	return n
}
