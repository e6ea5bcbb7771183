package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// lookupError says why the DHT knows no address of an agent, and what to do.
func lookupError(to sdk.AgentID, err error, asked int, took time.Duration, down bool) *sdk.Error {
	e := &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true}
	var gone *dht.WithdrawnError
	var silent *dht.SilentError
	switch {
	case errors.As(err, &gone):
		e.Code = sdk.Unreachable
		e.Text = fmt.Sprintf("%s has gone offline: its node withdrew its address %s; it can be found again once it runs and has an address",
			to, gone.Since.UTC().Format(time.RFC3339))
	case errors.Is(err, dht.ErrBusy):
		e.Code, e.Limit = sdk.Busy, dhtSearches()
		e.Text = fmt.Sprintf("%s could not be looked for: this node searches the DHT for too much at once", to)
	case down:
		e.Text = fmt.Sprintf("%s could not be looked for: no other node answers this one at present; check this machine's network", to)
	case errors.Is(err, dht.ErrNotFound):
		e.Text = fmt.Sprintf("no node of this network has an address record of %s (%d were asked, in %s); is its node running, with the same --network?",
			to, asked, took.Round(time.Millisecond))
	case errors.As(err, &silent):
		e.Text = fmt.Sprintf("%s was not found, which is not certain: of some %d nodes that could know its address only %d answered, in %s; try again",
			to, silent.Should, silent.Answered, took.Round(time.Millisecond))
	case errors.Is(err, dht.ErrNoAnswer):
		e.Text = fmt.Sprintf("%s could not be looked for: %d nodes were asked, none answered in %s; check this node's --bootstrap and network",
			to, asked, took.Round(time.Millisecond))
	default:
		e.Text = fmt.Sprintf("the DHT could not be asked for %s: %v; check this node's --bootstrap", to, err)
	}
	return e
}

// dhtSearches is the limit that dht.ErrBusy speaks of.
func dhtSearches() *sdk.Limit {
	return &sdk.Limit{Name: "searches of the DHT", Value: dht.MaxLookups + 1, Max: dht.MaxLookups, RetryAfter: time.Second}
}

func dialError(to sdk.AgentID, err error) *sdk.Error {
	e := &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: fmt.Sprintf("no address of %s answered", to.Short())}
	for _, d := range dialErrors(err) {
		for _, a := range d.Attempts {
			if len(e.Attempts) < sdk.MaxAttempts {
				e.Attempts = append(e.Attempts, sdk.Attempt{Address: a.Addr.String(), Cause: a.Err.Error()})
			}
		}
	}
	if len(e.Attempts) == 0 && err != nil {
		e.Text += ": " + err.Error()
	}
	return e
}

// dialErrors are the DialErrors in err's tree.
func dialErrors(err error) []*transport.DialError {
	if d, ok := err.(*transport.DialError); ok {
		return []*transport.DialError{d}
	}
	var list []*transport.DialError
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, dialErrors(inner)...)
		}
	case interface{ Unwrap() error }:
		list = dialErrors(e.Unwrap())
	}
	return list
}
