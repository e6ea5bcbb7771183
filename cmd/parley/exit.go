package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// Exit codes. An error of the closed set has exitSDK plus its code's number,
// which never changes.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitSDK        = 10
)

// usageError is for what no node can mend: the command line or its input.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// failure is err as the command tells it: its name for programs, its exit code.
func failure(err error) (name string, code int) {
	var e *sdk.Error
	var usage *usageError
	var input *control.InputError
	switch {
	case errors.Is(err, errInterrupted):
		return "interrupted", exitKilled
	case errors.As(err, &e):
		return e.Code.Name(), exitSDK + int(e.Code)
	case errors.As(err, &usage), errors.As(err, &input):
		return "usage", exitUsage
	case errors.Is(err, control.ErrNotRunning):
		return "not_running", exitNotRunning
	}
	return "failed", exitFailed
}

func exitCode(err error) int {
	_, code := failure(err)
	return code
}

// errorReport is what --json prints on stderr.
type errorReport struct {
	ExitCode int             `json:"exit_code"`
	Error    json.RawMessage `json:"error"`
}

type plainError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// printError writes err in one line. With asJSON it is
//
//	{"exit_code": 17, "error": {"code": "timeout", "message": "…", …}}
//
// where error is the JSON form of sdk.Error, or code and message only.
func printError(w io.Writer, err error, asJSON bool) {
	if !asJSON {
		fmt.Fprintln(w, "parley: "+cleanLine(err.Error()))
		return
	}
	name, code := failure(err)
	var body any = plainError{Code: name, Message: cleanLine(err.Error())}
	var e *sdk.Error
	if errors.As(err, &e) && e.Code.Name() == name {
		body = e
	}
	raw, jsonErr := json.Marshal(body)
	if jsonErr == nil {
		raw, jsonErr = json.Marshal(errorReport{code, raw})
	}
	if jsonErr != nil {
		fmt.Fprintln(w, "parley: "+cleanLine(err.Error()))
		return
	}
	fmt.Fprintf(w, "%s\n", cleanJSON(raw))
}
