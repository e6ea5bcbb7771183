package node

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/sdk"
)

// A disk that is full for agency.db: uses of a grant are refused and are none, until
// there is room; and a node that is killed then has counted what it let in.
func TestAgencyDiskFull(t *testing.T) {
	t.Parallel()
	alice, bob, p := behindProxy(t)
	claim, err := bob.control.AddGrant(t.Context(), "test", sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice.Agent()}, Functions: []string{"do"}, Uses: 4})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := sdk.Marshal(testMessage{Do: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	use := func() error {
		lc := &liveCall{node: alice.Node, app: alice.apps.all()[0], call: &sdk.Call{Kind: sdk.CallFunction, From: alice.Agent(), ID: newMessageID()}}
		_, err := lc.Send(t.Context(), sdk.Message{To: bob.peer.Agent, Function: "do", Payload: payload})
		return err
	}
	used := func(want int) {
		t.Helper()
		list, err := bob.control.Grants(t.Context(), "test")
		if err != nil || len(list) != 1 || list[0].ID != claim.Grant || list[0].Used != want {
			t.Errorf("%+v, %v; want %d uses", list, err, want)
		}
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	limitFiles(t, bob.cmd.Process.Pid, uint64(2*os.Getpagesize())) // no more than the file's two heads
	for range 3 {
		notCounted(t, use())
	}
	used(1)
	limitFiles(t, bob.cmd.Process.Pid, unix.RLIM_INFINITY)
	if err := use(); err != nil {
		t.Fatal(err)
	}
	limitFiles(t, bob.cmd.Process.Pid, uint64(2*os.Getpagesize()))
	notCounted(t, use())
	bob.kill()
	bob.start("-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	used(2)
	for range 2 {
		if err := use(); err != nil {
			t.Fatal(err)
		}
	}
	if e := wantError(t, use(), sdk.Refused, sdk.DeliveredNo, true); !strings.Contains(e.Text, "spent") {
		t.Errorf("got %v", e)
	}
}
