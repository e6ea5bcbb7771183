package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// claimsFlush is how long what other nodes told waits to be written: strangers
// must not make this node sync its disk. What is lost by a crash is no loss, since
// a claim that was told has no secret and is not needed for a call.
const claimsFlush = 5 * time.Second

// dropPause is after how long what is too old is looked for again.
const dropPause = time.Hour

// claims are what this agent holds of other agents' grants, in all DNAs.
type claims struct {
	mostUnkept int

	mu     sync.Mutex // guards what follows
	table  *agency.Claims
	unkept map[agency.ClaimKey]bool // to be written, as they are then
	anew   bool                     // all are: too many have changed to know which
}

func newClaims(l *Limits) *claims {
	return &claims{mostUnkept: 2 * l.MaxClaims, table: agency.NewClaims(l.MaxClaims, l.MaxClaimsPerAgent), unkept: map[agency.ClaimKey]bool{}}
}

// storedClaim is a claim in agency.db, under DNA hash 32 | grantor 32 | grant 32.
type storedClaim struct {
	Version   int      `codec:"v"`
	Secret    []byte   `codec:"s,omitempty"`
	Functions []string `codec:"f,omitempty"`
	Expires   int64    `codec:"e,omitempty"` // Unix time, µs
	Since     int64    `codec:"t"`
	Told      bool     `codec:"o,omitempty"`
}

func claimKeyBytes(k agency.ClaimKey) []byte {
	return slices.Concat(k.DNA[:], k.Grantor[:], k.Grant[:])
}

func encodeClaim(c *agency.HeldClaim) ([]byte, error) {
	s := storedClaim{Version: 1, Functions: c.Functions, Since: c.Since.UnixMicro(), Told: c.Told}
	if !c.Secret.IsZero() {
		s.Secret = c.Secret[:]
	}
	if !c.Expires.IsZero() {
		s.Expires = c.Expires.UnixMicro()
	}
	return sdk.Marshal(s)
}

func decodeClaim(k, v []byte) (c agency.HeldClaim, err error) {
	var s storedClaim
	if err := sdk.UnmarshalStrict(v, &s); err != nil {
		return c, err
	}
	if len(k) != 96 || s.Version != 1 || len(s.Secret) != 0 && len(s.Secret) != 32 {
		return c, fmt.Errorf("version %d, key of %d bytes, secret of %d", s.Version, len(k), len(s.Secret))
	}
	c = agency.HeldClaim{DNA: sdk.DNAHash(k[:32]), Since: time.UnixMicro(s.Since), Told: s.Told,
		Claim: sdk.Claim{Grantor: sdk.AgentID(k[32:64]), Grant: sdk.Hash(k[64:]), Functions: s.Functions}}
	if len(s.Secret) != 0 {
		c.Secret = sdk.Secret(s.Secret)
	}
	if s.Expires != 0 {
		c.Expires = time.UnixMicro(s.Expires).UTC()
	}
	return c, c.Check()
}

// loadClaims reads agency.db; what can't be read is told and left there.
func (n *Node) loadClaims() error {
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	return n.agencyDB.each(bucketClaims, func(k, v []byte) error {
		c, err := decodeClaim(k, v)
		if err != nil {
			n.cfg.Log.Warn("a claim can't be read", "file", agencyFile, "error", err.Error())
		} else if !n.claims.table.Restore(c) {
			n.cfg.Log.Warn("a claim is left out: there are more than max-claims", "grant", c.Grant.String())
		}
		return nil
	})
}

// Claim implements sdk.Host.
func (c *liveCall) Claim(_ context.Context, claim sdk.Claim) error {
	if err := c.open(); err != nil {
		return err
	}
	if err := c.node.addClaim(c.app, claim); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.effects = true
	return nil
}

// addClaim keeps what a handler or the operator has got. It is on disk when it
// returns nil.
func (n *Node) addClaim(a *app, claim sdk.Claim) error {
	if err := claim.Check(); err != nil {
		return sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	if claim.Grantor == n.id.agent {
		return sdk.Fail(sdk.HandlerCodeInput, "claim: the grant is this agent's own; it needs none")
	}
	claim.Functions = slices.Clone(claim.Functions)
	held := agency.HeldClaim{Claim: claim, DNA: a.hash}
	n.claims.mu.Lock()
	gone, e := n.claims.table.Add(n.now(), held)
	n.claims.touchedLocked(gone)
	n.claims.mu.Unlock()
	if e != nil {
		return e
	}
	return n.keepClaimsNow(held.Key())
}

// removeClaim lets claims of a grant go, whoever's; false if there are none.
func (n *Node) removeClaim(a *app, grant sdk.Hash) (bool, error) {
	n.claims.mu.Lock()
	var keys []agency.ClaimKey
	for _, c := range n.claims.table.List(time.Time{}) {
		if c.DNA == a.hash && c.Grant == grant {
			keys = append(keys, c.Key())
			n.claims.table.Remove(c.Key())
		}
	}
	n.claims.mu.Unlock()
	if len(keys) == 0 {
		return false, nil
	}
	return true, n.keepClaimsNow(keys...)
}

// touchedLocked notes claims that have changed and are to be written in time.
func (c *claims) touchedLocked(keys []agency.ClaimKey) {
	for _, k := range keys {
		c.unkept[k] = true
	}
	if len(c.unkept) > c.mostUnkept {
		c.unkept, c.anew = map[agency.ClaimKey]bool{}, true
	}
}

// takeUnkept are the keys to be written, and whether the bucket is to be written anew.
func (c *claims) takeUnkept(own []agency.ClaimKey) (keys map[agency.ClaimKey]bool, anew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys, anew = c.unkept, c.anew
	c.unkept, c.anew = map[agency.ClaimKey]bool{}, false
	for _, k := range own {
		keys[k] = true
	}
	return keys, anew
}

// write puts claims into a transaction, as they are now.
func (c *claims) write(tx *bolt.Tx, keys map[agency.ClaimKey]bool, anew bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if anew {
		if err := tx.DeleteBucket([]byte(bucketClaims)); err != nil {
			return err
		}
		if _, err := tx.CreateBucket([]byte(bucketClaims)); err != nil {
			return err
		}
		keys = map[agency.ClaimKey]bool{}
		for _, h := range c.table.List(time.Time{}) {
			keys[h.Key()] = true
		}
	}
	for k := range keys {
		var v []byte
		if h, ok := c.table.Get(k); ok {
			var err error
			if v, err = encodeClaim(&h); err != nil {
				return err
			}
		}
		if err := putAgency(tx, bucketClaims, claimKeyBytes(k), v); err != nil {
			return err
		}
	}
	return nil
}

// keepClaimsNow writes these claims, and whatever else has changed.
func (n *Node) keepClaimsNow(own ...agency.ClaimKey) error {
	keys, anew := n.claims.takeUnkept(own)
	err := n.agencyDB.update(func(tx *bolt.Tx) error { return n.claims.write(tx, keys, anew) })
	if err == nil {
		return nil
	}
	n.claims.mu.Lock() // the file may have them, or not: they are written again in any case
	for k := range keys {
		n.claims.unkept[k] = true
	}
	n.claims.anew = n.claims.anew || anew
	n.claims.mu.Unlock()
	n.cfg.Log.Error("claims could not be written", "file", agencyFile, "error", err.Error())
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeCommit,
		Text: "the claim could not be written yet: what has changed counts until the node stops, and is tried again; its log says why"}
}

// keepClaims writes from time to time what other nodes have told, and what else is
// not worth a sync of its own, and at the end.
func (n *Node) keepClaims(ctx context.Context) error {
	t, old := time.NewTicker(claimsFlush), time.NewTicker(dropPause)
	defer t.Stop()
	defer old.Stop()
	for running := true; running; {
		select {
		case <-t.C:
		case <-old.C:
			n.dropOld()
		case <-ctx.Done():
			running = false
		}
		n.claims.mu.Lock()
		n.claims.touchedLocked(n.claims.table.Expire(n.now()))
		changed := len(n.claims.unkept) > 0 || n.claims.anew
		n.claims.mu.Unlock()
		if changed {
			_ = n.keepClaimsNow() // it is in the log, and tried again
		}
		if err := errors.Join(n.keepUsers(), n.teller.flush(), n.finisher.flush(), n.agencyDB.repair()); err != nil {
			n.cfg.Log.Error("not all that has changed could be written; it is tried again", "file", agencyFile, "error", err.Error())
		}
	}
	return nil
}

// dropOld has what is too old leave agency.db: a node may run for years.
func (n *Node) dropOld() {
	n.finisher.dropOld()
	if err := n.dropTells(); err != nil {
		n.cfg.Log.Error("what is too old to be told could not be removed; it is tried again", "file", agencyFile, "error", err.Error())
	}
}

func (c *claims) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.Len()
}

// heldClaims are the claims of a DNA.
func (n *Node) heldClaims(a *app) (list []agency.HeldClaim) {
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	return slices.DeleteFunc(n.claims.table.List(n.now()), func(c agency.HeldClaim) bool { return c.DNA != a.hash })
}
