package control

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func TestGrantsOverTheSocket(t *testing.T) {
	t.Parallel()
	a := testRecord(1, nil).Header.Author
	until := time.UnixMicro(1_800_000_000_000_000).UTC()
	want := sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{a}, Functions: []string{"bid"}, Expires: until, Uses: 3,
		Rate: sdk.Rate{N: 10, Per: time.Minute}, MaxPayload: 5}
	made := sdk.Claim{Grantor: a, Grant: sdk.Hash{7}, Secret: sdk.Secret{8}, Functions: []string{"bid"}, Expires: until}
	status := []Grant{{ID: sdk.Hash{7}, Kind: "assigned", Agents: []sdk.AgentID{a}, Functions: []string{"bid"}, Expires: until, Uses: 3, Used: 2,
		Rate: 10, Per: time.Minute, MaxPayload: 5, Since: until, Expired: true}, {ID: sdk.Hash{8}, Kind: "unrestricted", Since: until}}
	held := []Claim{{Grantor: a, Grant: sdk.Hash{7}, Functions: []string{"bid"}, Expires: until, Since: until, Told: true, Refused: "no"},
		{Grantor: a, Grant: sdk.Hash{8}, Since: until, Secret: true}}
	gone := &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, HandlerCode: sdk.HandlerCodeNotFound}
	n := &fakeNode{
		grants: func(_ context.Context, dna string) ([]Grant, error) { return status, nil },
		addGrant: func(_ context.Context, dna string, g sdk.Grant) (sdk.Claim, error) {
			if dna != "auction" || !reflect.DeepEqual(g, want) {
				t.Errorf("got %s, %+v", dna, g)
			}
			return made, nil
		},
		revokeGrant: func(_ context.Context, dna string, id sdk.Hash) error {
			if id == made.Grant {
				return nil
			}
			return gone
		},
		claims: func(context.Context, string) ([]Claim, error) { return held, nil },
		addClaim: func(_ context.Context, dna string, c sdk.Claim) error {
			if !reflect.DeepEqual(c, made) {
				t.Errorf("got %+v", c)
			}
			return nil
		},
		removeClaim: func(_ context.Context, dna string, id sdk.Hash) error { return gone },
	}
	c, _ := start(t, n)
	ctx := t.Context()
	if got, err := c.AddGrant(ctx, "auction", want); err != nil || !reflect.DeepEqual(got, made) {
		t.Errorf("add: %+v, %v", got, err)
	}
	if got, err := c.Grants(ctx, "auction"); err != nil || !reflect.DeepEqual(got, status) {
		t.Errorf("list: %+v, %v", got, err)
	}
	if err := c.RevokeGrant(ctx, "auction", made.Grant); err != nil {
		t.Error(err)
	}
	if err := c.RevokeGrant(ctx, "auction", sdk.Hash{1}); !sdk.IsNotFound(err) {
		t.Errorf("revoke what is not there: %v", err)
	}
	if got, err := c.Claims(ctx, "auction"); err != nil || !reflect.DeepEqual(got, held) {
		t.Errorf("claims: %+v, %v", got, err)
	}
	if err := c.AddClaim(ctx, "auction", made); err != nil {
		t.Error(err)
	}
	if err := c.RemoveClaim(ctx, "auction", sdk.Hash{1}); !sdk.IsNotFound(err) {
		t.Errorf("remove what is not there: %v", err)
	}
	var input *InputError
	if _, err := c.AddGrant(ctx, "auction", sdk.Grant{Kind: sdk.GrantAssigned}); !errors.As(err, &input) || !strings.Contains(err.Error(), "without an agent") {
		t.Errorf("a grant for nobody: %v", err)
	}
	if _, err := c.AddGrant(ctx, "auction", sdk.Grant{}); !errors.As(err, &input) {
		t.Errorf("a grant of no kind: %v", err)
	}
	for name, err := range map[string]error{
		"grant": func() error {
			_, err := c.rpc.RevokeGrant(ctx, &controlpb.RevokeGrantRequest{Dna: "auction", Grant: "hash1"})
			return err
		}(),
		"claim": func() error {
			_, err := c.rpc.AddClaim(ctx, &controlpb.AddClaimRequest{Dna: "auction", Claim: "claim1qqqqqqqq"})
			return err
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), "invalid_argument") {
			t.Errorf("a malformed %s: %v", name, err)
		}
	}
}

func TestPolicyOverTheSocket(t *testing.T) {
	t.Parallel()
	a, b := testRecord(1, nil).Header.Author, sdk.AgentID{5}
	want := Policy{Blocked: []sdk.AgentID{a}, Allowed: []sdk.AgentID{b}, Limits: []AgentLimit{{Name: "agent-requests", Max: 5}, {Agent: a, Name: "agent-bytes", Max: -1}}}
	change := PolicyChange{Block: []sdk.AgentID{a}, Unblock: []sdk.AgentID{b}, Allow: []sdk.AgentID{b}, Disallow: []sdk.AgentID{a}, Limits: want.Limits}
	c, _ := start(t, &fakeNode{
		policy: func(context.Context) (Policy, error) { return want, nil },
		change: func(_ context.Context, got PolicyChange) (Policy, error) {
			if !reflect.DeepEqual(got, change) {
				t.Errorf("got %+v", got)
			}
			return want, nil
		},
	})
	if got, err := c.Policy(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := c.ChangePolicy(t.Context(), change); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []*controlpb.ChangePolicyRequest{{Block: []string{""}}, {Allow: []string{"agent1"}}, {Limits: []*controlpb.AgentLimit{{Name: "agent-bytes", Max: -2}}}} {
		if _, err := c.rpc.ChangePolicy(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "invalid_argument") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func FuzzGrantFromWire(f *testing.F) {
	b, err := proto.Marshal(grantToWire(&Grant{ID: sdk.Hash{1}, Kind: "assigned", Agents: []sdk.AgentID{{1}}, Uses: 3, Rate: 1, Per: time.Second, Since: time.Unix(1, 0)}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m controlpb.Grant
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		if g, err := newGrant(&m); err == nil && g.Check() != nil {
			t.Errorf("%+v was taken", g)
		}
		g, err := grantFromWire(&m)
		if err != nil {
			return
		}
		if again, err := grantFromWire(grantToWire(&g)); err != nil || again.ID != g.ID || again.Uses != g.Uses || again.Per != g.Per {
			t.Errorf("%+v became %+v, %v", g, again, err)
		}
	})
}
