package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
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

func TestEverySettingOfTheFileIsAFlag(t *testing.T) {
	t.Parallel()
	s, err := parseSettings([]byte("plugins='a'\nlisten='a'\nadvertise=['a']\nbootstrap=['a']\nnetwork='a'\ndeadline='1s'\nmax-payload=1\nlog-level='a'\nlog-json=true\n"))
	if err != nil {
		t.Fatal(err)
	}
	cmd, _, err := (&cli{}).root().Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.flags()) != 9 {
		t.Errorf("%d settings: %v", len(s.flags()), s.flags())
	}
	for name := range s.flags() {
		if cmd.Flags().Lookup(name) == nil {
			t.Errorf("%s is no flag of run", name)
		}
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
