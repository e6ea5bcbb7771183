package sdk

// Grant opens functions of this agent's DNA to others, who use CallRemote. It is on
// the chain, as a private entry, and effective when Grant returns, whatever becomes
// of this call. Agents that it is assigned to are told; the claim of a transferable
// one has the secret to be passed on, and Claim takes it.
func (c *Context) Grant(g Grant) (Claim, error) {
	if err := c.live("Grant"); err != nil {
		return Claim{}, err
	}
	if err := g.Check(); err != nil {
		return Claim{}, Fail(HandlerCodeInput, "%v", err)
	}
	claim, err := c.call.host.Grant(c.under(), g)
	if err != nil {
		return Claim{}, hostError(err, DeliveredNo)
	}
	return claim, nil
}

// Revoke ends a grant of this agent's, named by Claim.Grant, or a delegation, named
// by its Proof's ID. It is effective here when Revoke returns. Holders are told; a
// revoked delegation is refused by everybody within a minute.
func (c *Context) Revoke(id Hash) error {
	if err := c.live("Revoke"); err != nil {
		return err
	}
	if err := c.call.host.Revoke(c.under(), id); err != nil {
		return hostError(err, DeliveredNo)
	}
	return nil
}

// Claim keeps a grant that another agent has passed on. CallRemote then uses it.
func (c *Context) Claim(claim Claim) error {
	if err := c.live("Claim"); err != nil {
		return err
	}
	if err := claim.Check(); err != nil {
		return Fail(HandlerCodeInput, "%v", err)
	}
	if err := c.call.host.Claim(c.under(), claim); err != nil {
		return hostError(err, DeliveredNo)
	}
	return nil
}

// Delegate lets another agent act in this agent's name, within d. The proof is for
// that agent, which uses it with OnBehalf; it is of no use to anybody else.
func (c *Context) Delegate(d Delegation) (Proof, error) {
	if err := c.live("Delegate"); err != nil {
		return nil, err
	}
	if err := d.Check(); err != nil {
		return nil, Fail(HandlerCodeInput, "%v", err)
	}
	p, err := c.call.host.Delegate(c.under(), d)
	if err != nil {
		return nil, hostError(err, DeliveredNo)
	}
	return p, nil
}
