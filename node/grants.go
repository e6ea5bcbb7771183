package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// grants are an app's. Its chain holds them; this is what stands there, and how
// often each was used.
type grants struct {
	mu     sync.Mutex // guards what follows
	book   *agency.Book
	coming int // that are being appended
}

// grantUse is one call that a grant lets in.
type grantUse struct {
	app *app
	use *agency.Use
}

// ownAppend appends an entry for whoever caused it: a call or the operator.
type ownAppend func(ctx context.Context, e sdk.Entry) error

// Grant implements sdk.Host.
func (c *liveCall) Grant(ctx context.Context, g sdk.Grant) (sdk.Claim, error) {
	if err := c.open(); err != nil {
		return sdk.Claim{}, err
	}
	return c.node.grant(ctx, c.app, g, c.appendOwn)
}

// Revoke implements sdk.Host.
func (c *liveCall) Revoke(ctx context.Context, id sdk.Hash) error {
	if err := c.open(); err != nil {
		return err
	}
	found, err := c.node.revokeGrant(ctx, c.app, id, c.appendOwn)
	if err == nil && !found {
		found, err = c.node.revokeDelegation(ctx, c.app, id, c.appendOwn)
	}
	if err == nil && !found {
		err = errNoGrant(id)
	}
	return err
}

func errNoGrant(id sdk.Hash) *sdk.Error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeNotFound,
		Text: "no grant " + id.String() + " lasts: it has expired, or there was none"}
}

// grant makes a grant: on the chain first, then effective, then told.
func (n *Node) grant(ctx context.Context, a *app, g sdk.Grant, put ownAppend) (sdk.Claim, error) {
	now := n.now()
	if err := g.Check(); err != nil {
		return sdk.Claim{}, sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	if !g.Expires.IsZero() && !g.Expires.After(now) {
		return sdk.Claim{}, sdk.Fail(sdk.HandlerCodeInput, "grant: it has expired already, at %s", g.Expires.UTC().Format(time.RFC3339))
	}
	g.Agents, g.Functions = slices.Clone(g.Agents), slices.Clone(g.Functions)
	if !g.Expires.IsZero() {
		g.Expires = g.Expires.UTC().Truncate(time.Microsecond)
	}
	e := agency.Entry{Grant: g}
	rand.Read(e.Nonce[:]) // never fails (crypto/rand)
	claim := sdk.Claim{Grantor: n.id.agent, Functions: g.Functions, Expires: g.Expires}
	if g.Kind == sdk.GrantTransferable {
		rand.Read(claim.Secret[:])
		e.Secret = agency.SecretHash(claim.Secret)
	}
	content, err := e.Encode()
	if err != nil {
		return sdk.Claim{}, sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	claim.Grant = sdk.EntryHash(content)
	if err := a.grants.begin(now); err != nil {
		return sdk.Claim{}, err
	}
	err = put(ctx, sdk.Entry{Type: agency.TypeGrant, Content: content})
	a.grants.mu.Lock()
	a.grants.coming--
	if err == nil {
		a.grants.book.Add(claim.Grant, e, now, 0)
	}
	a.grants.mu.Unlock()
	if err != nil {
		return sdk.Claim{}, err
	}
	tells := n.teller.of(a, &claim, false, g.Agents)
	n.keepTells(a, tells)
	n.teller.queue(tells)
	return claim, nil
}

// begin keeps room for one more.
func (g *grants) begin(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.book.Full(now, g.coming); e != nil {
		return e
	}
	g.coming++
	return nil
}

// revokeGrant ends a grant; found tells that there is one of this name, which may
// be over already.
func (n *Node) revokeGrant(ctx context.Context, a *app, id sdk.Hash, put ownAppend) (found bool, err error) {
	a.grants.mu.Lock()
	known, lasts := a.grants.book.Known(n.now(), id)
	a.grants.mu.Unlock()
	if !lasts {
		return known, nil
	}
	content, err := agency.EncodeRevoked(id)
	if err != nil {
		return true, err
	}
	putErr := put(ctx, sdk.Entry{Type: agency.TypeRevoked, Content: content})
	if putErr != nil && !errors.Is(putErr, sdk.OutcomeUnknown) {
		return true, putErr
	}
	a.grants.mu.Lock() // if nobody knows whether its end is on disk, it is over until the chain is read again
	holders, ok := a.grants.book.Revoke(n.now(), id)
	a.grants.mu.Unlock()
	if putErr != nil {
		return true, putErr
	}
	if ok {
		tells := n.teller.of(a, &sdk.Claim{Grant: id}, true, holders)
		n.keepEnd(a, id, tells)
		n.teller.queue(tells)
	}
	return true, nil
}

// knows tells whether a proof's principal or presenter is more than a stranger: a
// grant of this agent's names him, or the allow list does.
func (n *Node) knows(links []sdk.Link) bool {
	return n.knowsAgent(links[0].From) || n.knowsAgent(links[len(links)-1].To)
}

// knowsAgent is knows for one agent.
func (n *Node) knowsAgent(agent sdk.AgentID) bool {
	if agent == n.id.agent || n.policy.rules.Load().Rule(agent).Allowed {
		return true
	}
	now := n.now()
	for _, a := range n.apps.all() {
		a.grants.mu.Lock()
		named := a.grants.book.Names(now, agent)
		a.grants.mu.Unlock()
		if named {
			return true
		}
	}
	return false
}

// takeGrant finds a grant of this agent's that lets a call of a function in, and
// counts the use: durably, where the grant is for a number of uses.
func (n *Node) takeGrant(a *app, ask *agency.Ask) (*grantUse, *sdk.Error) {
	a.grants.mu.Lock()
	use, e := a.grants.book.Take(n.now(), ask)
	a.grants.mu.Unlock()
	if e != nil {
		return nil, e
	}
	return &grantUse{a, use}, nil
}

// count makes the use durable.
func (n *Node) countUse(u *grantUse) *sdk.Error {
	if u == nil || u.use.Used == 0 {
		return nil
	}
	if err := n.storeUses(u); err != nil {
		n.giveBack(u)
		n.usesUnsure(u)
		u.app.log.Error("the use of a grant could not be counted", "grant", u.use.Grant.String(), "error", err.Error())
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeCommit,
			Text: "the use of the grant could not be counted; its node's log says why"}
	}
	return nil
}

// storeUses writes how often the grant was used, and forgets that of some that are over.
func (n *Node) storeUses(u *grantUse) error {
	u.app.grants.mu.Lock()
	gone := u.app.grants.book.Gone(n.now())
	u.app.grants.mu.Unlock()
	return n.agencyDB.update(func(tx *bolt.Tx) error {
		if err := forgetUses(tx, u.app, gone); err != nil {
			return err
		}
		return u.put(tx)
	})
}

func forgetUses(tx *bolt.Tx, a *app, grants []sdk.Hash) error {
	for _, id := range grants {
		if err := putAgency(tx, bucketUses, usesKey(a, id), nil); err != nil {
			return err
		}
	}
	return nil
}

// put writes how often the grant was used by the time of the transaction, so that of
// two that run at once the later writes the greater number.
func (u *grantUse) put(tx *bolt.Tx) error {
	g := &u.app.grants
	g.mu.Lock()
	used, lasts := g.book.Used(u.use.Grant)
	g.mu.Unlock()
	var v []byte
	if lasts {
		v = binary.BigEndian.AppendUint64(nil, uint64(used))
	}
	return putAgency(tx, bucketUses, usesKey(u.app, u.use.Grant), v)
}

// usesUnsure is told of a count that the disk has not confirmed: it is set right with
// the next transaction, so that no use is lost that was none.
func (n *Node) usesUnsure(u *grantUse) {
	n.agencyDB.writeAgain(bucketUses+string(usesKey(u.app, u.use.Grant)), u.put)
}

// giveBack takes a use back whose function never began to run.
func (n *Node) giveBack(u *grantUse) {
	u.app.grants.mu.Lock()
	defer u.app.grants.mu.Unlock()
	u.app.grants.book.GiveBack(u.use)
}

// leftNoTrace tells of a call that ended with e that it never ran, or is sent again:
// it is no use of what let it in. A handler may say of a call that has had an effect
// elsewhere that it was not delivered: such a one may not be repeated.
func (n *Node) leftNoTrace(ctx context.Context, e *sdk.Error) bool {
	return e != nil && e.Retry && (e.Delivered == sdk.DeliveredNo || n.interrupted(ctx, e))
}

// useEnded is told how the call has ended that a grant let in.
func (n *Node) useEnded(ctx context.Context, u *grantUse, e *sdk.Error) {
	if u == nil || !n.leftNoTrace(ctx, e) {
		return
	}
	n.giveBack(u)
	if u.use.Used == 0 {
		return
	}
	if err := n.storeUses(u); err != nil {
		n.usesUnsure(u)
		u.app.log.Warn("a use of a grant is given back once the disk takes it", "grant", u.use.Grant.String(), "error", err.Error())
	}
}

// keepEndAgain is before the name under which keepEnd is to be written again: a use's
// count is so under its bucket's.
const keepEndAgain = "end "

// keepEnd removes from agency.db what it has of a grant that is over, and puts there
// who is to be told.
func (n *Node) keepEnd(a *app, id sdk.Hash, tells []*tell) {
	now := n.now()
	keep := func(tx *bolt.Tx) error {
		if err := forgetUses(tx, a, []sdk.Hash{id}); err != nil {
			return err
		}
		if err := putAgency(tx, bucketUsers, usesKey(a, id), nil); err != nil {
			return err
		}
		return putTells(tx, now, tells)
	}
	if err := n.agencyDB.update(keep); err != nil {
		n.agencyDB.writeAgain(keepEndAgain+string(usesKey(a, id)), keep)
		a.log.Warn("the count of a revoked grant's uses stays until the disk takes it", "grant", id.String(), "error", err.Error())
	}
}

func usesKey(a *app, id sdk.Hash) []byte { return slices.Concat(a.hash[:], id[:]) }
