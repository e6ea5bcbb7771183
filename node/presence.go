package node

import (
	"context"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// presence is what this node knows of an agent without asking.
func (n *Node) presence(agent sdk.AgentID) sdk.Presence {
	if agent == n.id.agent {
		return sdk.Presence{Online: true, LastHeard: n.now()}
	}
	online, heard := n.endpoint.Presence(transport.PeerKey(agent))
	return sdk.Presence{Online: online, LastHeard: heard}
}

// Online implements sdk.Host.
func (c *liveCall) Online(_ context.Context, agent sdk.AgentID) (sdk.Presence, error) {
	if err := c.open(); err != nil {
		return sdk.Presence{}, err
	}
	return c.node.presence(agent), nil
}

// Online implements control.Node.
func (n *Node) Online(_ context.Context, agent sdk.AgentID) (sdk.Presence, error) {
	return n.presence(agent), nil
}
