package control

import (
	"context"
	"io"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// fakeNode answers with what a test sets; a method that is not set fails the test.
type fakeNode struct {
	t      *testing.T
	status func(context.Context) (Status, error)
	call   func(ctx context.Context, dna, function string, payload []byte) ([]byte, error)
	ping   func(context.Context, sdk.AgentID) (PingResult, error)
	lookup func(context.Context, sdk.AgentID) (LookupResult, error)
	chains func(context.Context) ([]ChainInfo, error)
	chain  func(context.Context, string, sdk.Query) ([]sdk.Record, error)
	entry  func(context.Context, string, sdk.Hash) (sdk.Record, error)
	verify func(context.Context, string) (VerifyResult, error)
	export func(context.Context, string, ExportOptions, io.Writer) error

	plugins func(context.Context) ([]PluginStatus, error)
	restart func(context.Context, string) error
	events  func(context.Context, EventQuery, func(PluginEvent) error) error

	watch  func(context.Context, WatchQuery, func(Signal) error) error
	online func(context.Context, sdk.AgentID) (sdk.Presence, error)

	dhtTable  func(context.Context) (DHTTable, error)
	dhtLookup func(context.Context, sdk.AgentID, DHTSearch) (DHTLookup, error)
	dhtStats  func(context.Context) (DHTStats, error)

	grants           func(context.Context, string) ([]Grant, error)
	addGrant         func(context.Context, string, sdk.Grant) (sdk.Claim, error)
	revokeGrant      func(context.Context, string, sdk.Hash) error
	delegations      func(context.Context, string) ([]Delegation, error)
	revokeDelegation func(context.Context, string, sdk.Hash) error
	claims           func(context.Context, string) ([]Claim, error)
	addClaim         func(context.Context, string, sdk.Claim) error
	removeClaim      func(context.Context, string, sdk.Hash) error
	policy           func(context.Context) (Policy, error)
	change           func(context.Context, PolicyChange) (Policy, error)
}

func (n *fakeNode) unset(method string) error {
	n.t.Errorf("%s was called, and must not be", method)
	return &InputError{Text: "unset"}
}

func (n *fakeNode) Status(ctx context.Context) (Status, error) {
	if n.status == nil {
		return Status{}, n.unset("Status")
	}
	return n.status(ctx)
}

func (n *fakeNode) Call(ctx context.Context, dna, function string, payload []byte) ([]byte, error) {
	if n.call == nil {
		return nil, n.unset("Call")
	}
	return n.call(ctx, dna, function, payload)
}

func (n *fakeNode) Ping(ctx context.Context, a sdk.AgentID) (PingResult, error) {
	if n.ping == nil {
		return PingResult{}, n.unset("Ping")
	}
	return n.ping(ctx, a)
}

func (n *fakeNode) Lookup(ctx context.Context, a sdk.AgentID) (LookupResult, error) {
	if n.lookup == nil {
		return LookupResult{}, n.unset("Lookup")
	}
	return n.lookup(ctx, a)
}

func (n *fakeNode) Chains(ctx context.Context) ([]ChainInfo, error) {
	if n.chains == nil {
		return nil, n.unset("Chains")
	}
	return n.chains(ctx)
}

func (n *fakeNode) Chain(ctx context.Context, dna string, q sdk.Query) ([]sdk.Record, error) {
	if n.chain == nil {
		return nil, n.unset("Chain")
	}
	return n.chain(ctx, dna, q)
}

func (n *fakeNode) GetEntry(ctx context.Context, dna string, record sdk.Hash) (sdk.Record, error) {
	if n.entry == nil {
		return sdk.Record{}, n.unset("GetEntry")
	}
	return n.entry(ctx, dna, record)
}

func (n *fakeNode) VerifyChain(ctx context.Context, dna string) (VerifyResult, error) {
	if n.verify == nil {
		return VerifyResult{}, n.unset("VerifyChain")
	}
	return n.verify(ctx, dna)
}

func (n *fakeNode) ExportChain(ctx context.Context, dna string, o ExportOptions, w io.Writer) error {
	if n.export == nil {
		return n.unset("ExportChain")
	}
	return n.export(ctx, dna, o, w)
}

func (n *fakeNode) Plugins(ctx context.Context) ([]PluginStatus, error) {
	if n.plugins == nil {
		return nil, n.unset("Plugins")
	}
	return n.plugins(ctx)
}

func (n *fakeNode) RestartPlugin(ctx context.Context, name string) error {
	if n.restart == nil {
		return n.unset("RestartPlugin")
	}
	return n.restart(ctx, name)
}

func (n *fakeNode) PluginEvents(ctx context.Context, q EventQuery, tell func(PluginEvent) error) error {
	if n.events == nil {
		return n.unset("PluginEvents")
	}
	return n.events(ctx, q, tell)
}

func (n *fakeNode) Watch(ctx context.Context, q WatchQuery, tell func(Signal) error) error {
	if n.watch == nil {
		return n.unset("Watch")
	}
	return n.watch(ctx, q, tell)
}

func (n *fakeNode) Online(ctx context.Context, a sdk.AgentID) (sdk.Presence, error) {
	if n.online == nil {
		return sdk.Presence{}, n.unset("Online")
	}
	return n.online(ctx, a)
}

func (n *fakeNode) DHTTable(ctx context.Context) (DHTTable, error) {
	if n.dhtTable == nil {
		return DHTTable{}, n.unset("DHTTable")
	}
	return n.dhtTable(ctx)
}

func (n *fakeNode) DHTLookup(ctx context.Context, a sdk.AgentID, o DHTSearch) (DHTLookup, error) {
	if n.dhtLookup == nil {
		return DHTLookup{}, n.unset("DHTLookup")
	}
	return n.dhtLookup(ctx, a, o)
}

func (n *fakeNode) DHTStats(ctx context.Context) (DHTStats, error) {
	if n.dhtStats == nil {
		return DHTStats{}, n.unset("DHTStats")
	}
	return n.dhtStats(ctx)
}

func (n *fakeNode) Grants(ctx context.Context, dna string) ([]Grant, error) {
	if n.grants == nil {
		return nil, n.unset("Grants")
	}
	return n.grants(ctx, dna)
}

func (n *fakeNode) AddGrant(ctx context.Context, dna string, g sdk.Grant) (sdk.Claim, error) {
	if n.addGrant == nil {
		return sdk.Claim{}, n.unset("AddGrant")
	}
	return n.addGrant(ctx, dna, g)
}

func (n *fakeNode) Delegations(ctx context.Context, dna string) ([]Delegation, error) {
	if n.delegations == nil {
		return nil, n.unset("Delegations")
	}
	return n.delegations(ctx, dna)
}

func (n *fakeNode) RevokeDelegation(ctx context.Context, dna string, delegation sdk.Hash) error {
	if n.revokeDelegation == nil {
		return n.unset("RevokeDelegation")
	}
	return n.revokeDelegation(ctx, dna, delegation)
}

func (n *fakeNode) RevokeGrant(ctx context.Context, dna string, grant sdk.Hash) error {
	if n.revokeGrant == nil {
		return n.unset("RevokeGrant")
	}
	return n.revokeGrant(ctx, dna, grant)
}

func (n *fakeNode) Claims(ctx context.Context, dna string) ([]Claim, error) {
	if n.claims == nil {
		return nil, n.unset("Claims")
	}
	return n.claims(ctx, dna)
}

func (n *fakeNode) AddClaim(ctx context.Context, dna string, c sdk.Claim) error {
	if n.addClaim == nil {
		return n.unset("AddClaim")
	}
	return n.addClaim(ctx, dna, c)
}

func (n *fakeNode) RemoveClaim(ctx context.Context, dna string, grant sdk.Hash) error {
	if n.removeClaim == nil {
		return n.unset("RemoveClaim")
	}
	return n.removeClaim(ctx, dna, grant)
}

func (n *fakeNode) Policy(ctx context.Context) (Policy, error) {
	if n.policy == nil {
		return Policy{}, n.unset("Policy")
	}
	return n.policy(ctx)
}

func (n *fakeNode) ChangePolicy(ctx context.Context, c PolicyChange) (Policy, error) {
	if n.change == nil {
		return Policy{}, n.unset("ChangePolicy")
	}
	return n.change(ctx, c)
}

// start serves n until the test ends and returns a client.
func start(t *testing.T, n *fakeNode, options ...Option) (*Client, string) {
	t.Helper()
	dir := t.TempDir()
	n.t = t
	s, err := Listen(dir, n, nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, dir
}
