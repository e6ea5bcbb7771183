package node

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// Two groups run the same DNA apart, each with a network seed of its own.
func TestNetworkSeedsKeepGroupsApart(t *testing.T) {
	t.Parallel()
	dir, plugins := shortTempDir(t), pluginDir(t, "test")
	bob := startChild(t, filepath.Join(dir, "bob"), plugins, "-seed", "one group")
	cfg := testConfig()
	cfg.Bootstrap = []Peer{bob.peer}
	cfg.Handlers = []sdk.Handler{testDNA()}
	cfg.DataDir, cfg.DNAs = filepath.Join(dir, "alice"), map[string]DNASettings{"test": {NetworkSeed: "one group"}}
	alice := startNode(t, cfg)
	cfg.Handlers = []sdk.Handler{testDNA()}
	cfg.DataDir, cfg.DNAs = filepath.Join(dir, "carol"), map[string]DNASettings{"test": {NetworkSeed: "another group"}}
	carol := startNode(t, cfg)

	toBob := testSend{To: bob.peer.Agent, Message: testMessage{Do: "commit", Text: "hello"}}
	if _, err := call[testMessage](t, alice, "send", toBob); err != nil {
		t.Fatal(err)
	}
	_, err := call[testMessage](t, carol, "send", toBob)
	e := wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
	if e.Side != sdk.SideRemoteNode || !strings.Contains(e.Text, "another hash") {
		t.Errorf("got %v", e)
	}
	// Who knows the whole hash can message the group, so a stranger is not told.
	if strings.Contains(e.Text, alice.apps.all()[0].hash.String()) {
		t.Errorf("the error tells a stranger the group's DNA hash: %v", e)
	}
	_, err = bob.call("send", testSend{To: carol.Agent(), Message: testMessage{Do: "commit", Text: "hello"}})
	wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
	if got := bob.notes(); len(got) != 1 {
		t.Errorf("Bob's chain holds %q", got)
	}
	wantNotes(t, carol)
}
