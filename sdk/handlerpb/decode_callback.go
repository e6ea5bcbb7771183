package handlerpb

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/sdk"
)

// parseCallback parses by hand what the traffic is made of: one send or one
// commit.
func parseCallback(msg []byte) (*Callback, error) {
	if err := inner(msg); err != nil {
		return nil, err
	}
	var op protowire.Number
	var body []byte
	c := &Callback{}
	other := false
	err := fields(msg, func(n protowire.Number, v uint64, b []byte) error {
		switch {
		case n == callbackID:
			c.ID = v
		case (n == callbackSend || n == callbackCommit) && op == 0 && b != nil:
			op, body = n, b
		default:
			other = true
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case other || op == 0:
		var w CallbackRequest
		if err := proto.Unmarshal(msg, &w); err != nil {
			return nil, malformed("%v", err)
		}
		*c, err = callbackFromWire(&w)
		return c, err
	case op == callbackCommit:
		return c, parseCommit(c, body)
	case c.ID == 0:
		return nil, errNoID
	}
	return c, parseSend(c, body)
}

func parseSend(c *Callback, msg []byte) error {
	c.Op = OpSend
	m := &c.Message
	var to []byte
	var ms uint64
	err := fields(msg, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case sendTo:
			to = b
		case sendPayload:
			m.Payload = own(b)
		case sendRemaining:
			ms = v
		case sendFunction:
			m.Function = string(b)
		case sendBehalf:
			m.Behalf = own(b)
		case sendReceipt:
			m.Receipt = v != 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	if m.To, err = fixed[sdk.AgentID]("receiver", to); err != nil {
		return err
	}
	if err = checkMessage(m); err != nil {
		return err
	}
	c.Remaining, err = remainingFromWire(ms)
	return err
}

func parseCommit(c *Callback, msg []byte) error {
	c.Op = OpCommit
	e := &c.Entry
	var visibility, ordering uint64
	err := fields(msg, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case entryType:
			e.Type = string(b)
		case entryVisibility:
			visibility = v
		case entryOrdering:
			ordering = v
		case entryContent:
			e.Content = own(b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if visibility > 0xff || ordering > 0xff {
		return malformed("visibility %d, ordering %d", visibility, ordering)
	}
	e.Visibility, e.Ordering = sdk.Visibility(visibility), sdk.Ordering(ordering)
	return CheckEntry(e)
}
