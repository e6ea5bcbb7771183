package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runSettings parses a command line as parley run does, with an environment and
// a file.
func runSettings(t *testing.T, env map[string]string, file string, args ...string) (*runFlags, error) {
	t.Helper()
	c := &cli{}
	cmd, _, err := c.root().Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	var f runFlags
	fresh := &cobra.Command{}
	// The flags of the real command, but on values that the test can read.
	fresh.Flags().AddFlagSet(cmd.Flags())
	if err := fresh.Flags().Parse(args); err != nil {
		return nil, err
	}
	if err := applyEnvironment(fresh.Flags(), func(k string) (string, bool) { v, ok := env[k]; return v, ok }); err != nil {
		return nil, err
	}
	s, err := parseSettings([]byte(file))
	if err != nil {
		return nil, err
	}
	if err := applyFile(fresh.Flags(), "parley.toml", s.flags()); err != nil {
		return nil, err
	}
	get := fresh.Flags()
	f.plugins, _ = get.GetString("plugins")
	f.listen, _ = get.GetString("listen")
	f.network, _ = get.GetString("network")
	f.logLevel, _ = get.GetString("log-level")
	f.advertise, _ = get.GetStringSlice("advertise")
	f.bootstrap, _ = get.GetStringSlice("bootstrap")
	f.deadline, _ = get.GetDuration("deadline")
	f.maxPayload, _ = get.GetInt("max-payload")
	f.logJSON, _ = get.GetBool("log-json")
	return &f, nil
}

func TestSettingsOrder(t *testing.T) {
	t.Parallel()
	const file = `
plugins = "file"
listen = "file:1"
network = "file"
deadline = "3s"
max-payload = 3
log-level = "error"
log-json = true
bootstrap = ["f1", "f2"]
advertise = ["f"]
`
	env := map[string]string{"PARLEY_LISTEN": "env:1", "PARLEY_NETWORK": "env", "PARLEY_BOOTSTRAP": "e1,e2", "PARLEY_MAX_PAYLOAD": "2"}
	f, err := runSettings(t, env, file, "--network", "flag", "--max-payload", "1")
	if err != nil {
		t.Fatal(err)
	}
	if f.network != "flag" || f.maxPayload != 1 {
		t.Errorf("flags lost: %+v", f)
	}
	if f.listen != "env:1" || !slices.Equal(f.bootstrap, []string{"e1", "e2"}) {
		t.Errorf("environment lost: %+v", f)
	}
	if f.plugins != "file" || f.deadline != 3*time.Second || f.logLevel != "error" || !f.logJSON || !slices.Equal(f.advertise, []string{"f"}) {
		t.Errorf("file lost: %+v", f)
	}
	f, err = runSettings(t, nil, "")
	if err != nil || f.network == "" || f.maxPayload == 0 || f.deadline == 0 {
		t.Errorf("defaults: %+v, %v", f, err)
	}
	_, err = runSettings(t, map[string]string{"PARLEY_DEADLINE": "soon", "PARLEY_MAX_PAYLOAD": "much"}, "")
	if err == nil || !strings.Contains(err.Error(), "PARLEY_DEADLINE") || !strings.Contains(err.Error(), "PARLEY_MAX_PAYLOAD") || exitCode(err) != exitUsage {
		t.Errorf("bad environment: %v", err)
	}
}

// TestEverySettingEverywhere: each flag of run can stand in the file, and in the
// document's table.
func TestEverySettingEverywhere(t *testing.T) {
	t.Parallel()
	cmd, _, err := (&cli{}).root().Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var file strings.Builder
	want := map[string]string{}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		value := map[string]string{"string": "x", "duration": "7s", "int": "7", "bool": "true", "stringSlice": "x,y"}[f.Value.Type()]
		want[f.Name] = value
		switch f.Value.Type() {
		case "int", "bool":
		case "stringSlice":
			value = `["x", "y"]`
		default:
			value = `"` + value + `"`
		}
		file.WriteString(f.Name + " = " + value + "\n")
		if !strings.Contains(string(doc), "\n| `"+f.Name+"` | ") {
			t.Errorf("docs/cli.md has no row for %s", f.Name)
		}
	})
	if len(want) < 20 {
		t.Errorf("only %d settings", len(want))
	}
	s, err := parseSettings([]byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.flags(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestErrorsNameRealSettings: whatever setting an error of the source names is a
// flag. The transport has names of its own, which the node translates.
func TestErrorsNameRealSettings(t *testing.T) {
	t.Parallel()
	flags := map[string]bool{}
	for _, c := range (&cli{}).root().Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	}
	naming := regexp.MustCompile(`(?:Setting: +"|\(setting )([A-Za-z-]+)|(?:, "|\{")((?:max|handler|chain|control|resend)-[a-z-]+)"`)
	found := 0
	for _, part := range []string{"node", "plugin", "sdk", "cmd"} {
		err := filepath.WalkDir("../../"+part, func(path string, e os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && e.Name() == "sdktest":
				return filepath.SkipDir
			case e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			text, err := os.ReadFile(path)
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(strings.TrimSpace(line), "//") {
					continue
				}
				for _, m := range naming.FindAllStringSubmatch(line, -1) {
					found++
					if name := m[1] + m[2]; !flags[name] {
						t.Errorf("%s: %s is no setting: %s", path, name, line)
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 20 {
		t.Errorf("only %d names found: does the pattern still fit?", found)
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ toml, want, wantErr string }{
		{`properties = { b = 1, a = ["x", true, 1.5], c = { d = "<&>" } }`, `{"a":["x",true,1.5],"b":1,"c":{"d":"<&>"}}`, ""},
		{`properties = ' { "b" : 1, "a": 12345678901234567890 } '`, `{"a":12345678901234567890,"b":1}`, ""},
		{`network-seed = "s"`, "", ""},
		{`properties = "{} {}"`, "", "data follows"},
		{`properties = "{"`, "", "not JSON"},
		{`properties = 5`, "", "a table, or a string"},
		{`properties = { at = 2026-01-01 }`, "", "at: "},
	} {
		s, err := parseSettings([]byte("[dna.d]\n" + c.toml + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		dnas, err := s.dnas()
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%s: %v, want %q", c.toml, err, c.wantErr)
			}
			continue
		}
		if err != nil || string(dnas["d"].Properties) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.toml, dnas["d"].Properties, err, c.want)
		}
	}
}

func TestReadSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if s, err := readSettings(dir); err != nil || len(s.flags()) != 0 {
		t.Errorf("without a file: %+v, %v", s, err)
	}
	writeSettings(t, dir, `plugins = "bin"`)
	if s, err := readSettings(dir); err != nil || *s.Plugins != filepath.Join(dir, "bin") {
		t.Errorf("a relative path: %+v, %v", s, err)
	}
	writeSettings(t, dir, strings.Repeat("#", maxSettingsFile+1))
	if _, err := readSettings(dir); exitCode(err) != exitUsage {
		t.Errorf("too long a file: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, settingsFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, settingsFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := readSettings(dir); err == nil {
		t.Error("a directory was read as settings")
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte("network = 'x'\n[dna.a]\nproperties = { a = [1, {b = 2}] }\n"))
	f.Add([]byte("max-payload = 99999999999999999999"))
	f.Add([]byte("[dna]\n[dna.a.b]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSettings(b)
		if err != nil {
			if s != nil || err.Error() == "" {
				t.Errorf("%+v with %v", s, err)
			}
			return
		}
		s.flags()
		if dnas, err := s.dnas(); err == nil && len(dnas) != len(s.DNA) {
			t.Errorf("%d of %d DNAs", len(dnas), len(s.DNA))
		}
	})
}
