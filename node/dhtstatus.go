package node

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/control"
)

func (n *Node) dhtStatus(s *control.Status) {
	d := n.dht.Stats()
	s.Ready = d.Ready
	s.DHT = control.DHTStatus{Contacts: d.Contacts, Records: d.Records, LastPublished: d.Published,
		Server: d.Server, WhyClient: whyClient(&d, s.Advertised)}
	if d.PublishError != nil {
		s.DHT.LastError = d.PublishError.Error()
	}
	switch {
	case s.Ready:
	case n.since().IsZero():
		s.NotReady = "handlers are being started"
	default:
		s.NotReady = notReady(&d, len(n.cfg.Bootstrap) > 0, n.now())
	}
	var clock *dht.ClockError
	if errors.As(d.PublishError, &clock) {
		s.Clock = clock.Error()
	}
}

// notReady says why others can't find the node at now.
func notReady(d *dht.Stats, bootstrap bool, now time.Time) string {
	switch {
	case !d.UplinkDown.IsZero():
		return fmt.Sprintf("no other node answers since %s: check this machine's network", d.UplinkDown.UTC().Format(time.RFC3339))
	case d.PublishError != nil:
		return d.PublishError.Error()
	case d.Contacts == 0 && !d.Published.IsZero():
		return "all nodes that were known are gone"
	case d.Contacts == 0 && bootstrap:
		return "no bootstrap node has answered yet"
	case !d.ReadBackUntil.IsZero() && !now.Before(d.ReadBackUntil):
		return "the address record that others had has expired, and they have no newer one yet"
	case !d.Published.IsZero():
		return "the address record was published, and is being read back from other nodes"
	}
	return "the address record is being published"
}

// whyClient says why the node takes part in the DHT as a client, and what to do;
// empty for a server.
func whyClient(d *dht.Stats, addrs []netip.AddrPort) string {
	switch {
	case d.Server:
		return ""
	case len(addrs) == 0:
		return "it has no address at which others could dial it: listen with --listen, or set --advertise"
	case !d.Proven:
		return "no other node has tried yet to dial it"
	}
	return fmt.Sprintf("other nodes could not dial it at %s: open the port in the firewall, forward it at the router, or set --advertise to where others can", addrs[0])
}
