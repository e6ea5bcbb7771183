package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// callbackDNA does in init and post_commit what the files say that lie in the
// directory of its properties, and tells there what it did.
func callbackDNA() *sdk.Definition {
	return sdk.Define("callbacks", "1",
		sdk.Init(func(c *sdk.Context) error {
			d, err := callbackDir(c)
			if err != nil {
				return err
			}
			if err := d.tell("inits", "init"); err != nil {
				return err
			}
			if _, err := c.Commit("born", "hello"); err != nil {
				return err
			}
			return d.do(c, "init")
		}),
		sdk.Validate(func(e *sdk.Candidate) error {
			var text string
			if err := e.Decode(&text); err != nil {
				return err
			}
			switch text {
			case "not valid":
				return sdk.Fail("callbacks.no", "own: %t", e.Own)
			case "panic":
				panic("as asked")
			}
			return nil
		}),
		sdk.PostCommit(func(c *sdk.Context, records []sdk.Record) error {
			d, err := callbackDir(c)
			if err != nil {
				return err
			}
			line := ""
			for _, r := range records {
				var text string
				if err := sdk.Unmarshal(r.Content, &text); err != nil {
					return err
				}
				line += fmt.Sprintf(" %d %s", r.Header.Seq, text)
			}
			if err := d.tell("posted", strings.TrimSpace(line)); err != nil {
				return err
			}
			return d.do(c, "post")
		}),
		sdk.Function("commit", func(c *sdk.Context, texts []string) (sdk.None, error) {
			for _, text := range texts {
				if _, err := c.Commit("note", text, sdk.AsPublic); err != nil {
					return sdk.None{}, err
				}
			}
			return sdk.None{}, nil
		}),
		sdk.Function("get", func(c *sdk.Context, record sdk.Hash) (string, error) {
			r, err := sdk.GetAs[string](c, record)
			return r.Value, err
		}),
		sdk.Receive(func(c *sdk.Context, text string) (string, error) { return text, nil }))
}

type callbackFiles string

func callbackDir(c *sdk.Context) (callbackFiles, error) {
	var p struct{ Dir string }
	err := c.Properties(&p)
	return callbackFiles(p.Dir), err
}

func callbackProperties(dir string) []byte {
	b, err := json.Marshal(map[string]string{"Dir": dir})
	if err != nil {
		panic(err)
	}
	return b
}

// tell appends a line.
func (d callbackFiles) tell(name, line string) error {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// do does what the file says: fail, exit, get HASH, or wait for the end of the call.
func (d callbackFiles) do(c *sdk.Context, what string) error {
	b, err := os.ReadFile(filepath.Join(string(d), what))
	if err != nil {
		return nil
	}
	if record, ok := strings.CutPrefix(string(b), "get "); ok {
		hash, err := sdk.ParseHash(record)
		if err != nil {
			return err
		}
		_, err = c.Get(hash)
		return err
	}
	switch string(b) {
	case "fail":
		return sdk.Fail("callbacks.told", "as told")
	case "exit":
		os.Exit(3)
	case "wait":
		err := d.tell(what+".waits", "")
		<-c.Done()
		return errors.Join(err, c.Err())
	}
	return fmt.Errorf("%s is to %q", what, b)
}

func (d callbackFiles) set(t *testing.T, what, do string) {
	t.Helper()
	path := filepath.Join(string(d), what)
	err := os.Remove(path)
	if do != "" { // a reader finds all of it or nothing
		if err = os.WriteFile(path+".new", []byte(do), 0o600); err == nil {
			err = os.Rename(path+".new", path)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lines are what was told so far: whole lines, none where there is no file yet.
func (d callbackFiles) lines(name string) (whole []string) {
	b, _ := os.ReadFile(filepath.Join(string(d), name))
	for line := range strings.Lines(string(b)) {
		if line, ended := strings.CutSuffix(line, "\n"); ended {
			whole = append(whole, line)
		}
	}
	return whole
}
