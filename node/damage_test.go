package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// A DNA whose chain file is not what was written is refused, with the number of
// the first wrong record, and the node's other DNA runs on.
func TestDamagedChainIsRefused(t *testing.T) {
	t.Parallel()
	const needle = "a text that is nowhere else in the file"
	plugins := pluginDir(t, "test", "other")
	damages := map[string]struct {
		do  func(t *testing.T, content []byte) []byte
		seq func(uint64) bool
	}{
		"a flipped byte": {func(t *testing.T, content []byte) []byte {
			at := bytes.Index(content, []byte(needle))
			if at < 0 {
				t.Fatal("the record is not in the file")
			}
			for ; at >= 0; at = bytes.Index(content, []byte(needle)) { // old pages hold copies
				content[at] ^= 1
			}
			return content
		}, func(seq uint64) bool { return seq == 2 }},
		"cut short": {func(t *testing.T, content []byte) []byte {
			return content[:bytes.LastIndex(content, []byte(needle))]
		}, func(seq uint64) bool { return seq <= 4 }},
		"cut to nothing": {func(*testing.T, []byte) []byte { return []byte("parley") }, func(seq uint64) bool { return seq == 0 }},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			cfg.DataDir, cfg.PluginDir = filepath.Join(shortTempDir(t), "n"), plugins
			cfg.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
			n := startNode(t, cfg)
			for _, text := range []string{"one", needle, "three"} {
				if _, err := call[testMessage](t, n, "do", testMessage{Do: "commit", Text: text}); err != nil {
					t.Fatal(err)
				}
			}
			n.stop()

			files, err := filepath.Glob(filepath.Join(cfg.DataDir, "chains", "test-*"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			content, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			content = damage.do(t, content)
			if err := os.WriteFile(files[0], content, 0o600); err != nil {
				t.Fatal(err)
			}

			n = startNode(t, cfg)
			s, err := n.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Damaged) != 1 || s.Damaged[0].DNA != "test" || !damage.seq(s.Damaged[0].Seq) || s.Damaged[0].Path != files[0] {
				t.Fatalf("status tells of %+v", s.Damaged)
			}
			if len(s.Handlers) != 1 || s.Handlers[0].DNA != "other" {
				t.Errorf("handlers: %+v", s.Handlers)
			}
			if r, err := n.VerifyChain(t.Context(), "test"); err != nil || r.Valid || r.Wrong != s.Damaged[0].Seq {
				t.Errorf("verify: %+v, %v", r, err)
			}
			_, err = call[testMessage](t, n, "do", testMessage{Do: "echo"})
			wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
			payload, _ := sdk.Marshal(testMessage{Do: "commit", Text: "runs on"})
			if _, err := n.Node.Call(t.Context(), "other", "do", payload); err != nil {
				t.Errorf("the other DNA: %v", err)
			}
			if after, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(after, content) {
				t.Errorf("the damaged file was changed (%v)", err)
			}
		})
	}
}
