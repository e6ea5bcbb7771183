// Command health keeps a patient's records to the patient, but for a doctor who was
// let in: until then, and after the patient has thought better of it, nobody reads them.
package main

import (
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// Note is one of the patient's records. It is a private entry: no node but the
// patient's ever holds it.
type Note struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// Share lets a doctor in.
type Share struct {
	Doctor sdk.AgentID   `json:"doctor"`
	For    time.Duration `json:"for"` // until then
}

// Fetch is a doctor's wish to read a patient's records.
type Fetch struct {
	Patient sdk.AgentID `json:"patient"`
}

// Access is what the patient's chain says of each reading.
type Access struct {
	Doctor sdk.AgentID `json:"doctor"`
	Notes  int         `json:"notes"`
}

// Visit is an Access with its time.
type Visit struct {
	Access
	At time.Time `json:"at"`
}

func add(c *sdk.Context, n Note) (sdk.Hash, error) {
	if n.Title == "" {
		return sdk.Hash{}, sdk.Fail("health.title", "a note has a title")
	}
	return c.Commit("note", n)
}

// share grants the doctor one function, read, and nothing else.
func share(c *sdk.Context, in Share) (sdk.Hash, error) {
	if in.For <= 0 {
		return sdk.Hash{}, sdk.Fail("health.for", "say for how long, such as 24h")
	}
	claim, err := c.Grant(sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{in.Doctor},
		Functions: []string{"read"}, Expires: time.Now().Add(in.For), Rate: sdk.Rate{N: 60, Per: time.Minute}})
	return claim.Grant, err
}

// unshare takes it back, at once.
func unshare(c *sdk.Context, grant sdk.Hash) (struct{}, error) { return struct{}{}, c.Revoke(grant) }

// read is called by the doctor's node, with the grant. What it commits goes to the
// patient's chain: who has read is never lost.
func read(c *sdk.Context, _ struct{}) ([]Note, error) {
	found, err := sdk.QueryAs[Note](c, sdk.Query{Type: "note", Limit: 1000})
	if err != nil {
		return nil, err
	}
	notes := make([]Note, len(found))
	for i, n := range found {
		notes[i] = n.Value
	}
	if c.From() == c.Agent() {
		return notes, nil // the patient's own client
	}
	_, err = c.Commit("access", Access{Doctor: c.From(), Notes: len(notes)})
	return notes, err
}

// fetch is the doctor's: it keeps nothing of what it reads.
func fetch(c *sdk.Context, in Fetch) ([]Note, error) {
	notes, err := sdk.CallRemote[[]Note](c, in.Patient, "read", struct{}{})
	if err != nil {
		return nil, fmt.Errorf("records of %s: %w", in.Patient.Short(), err)
	}
	return notes, nil
}

// visits lists who has read, and when.
func visits(c *sdk.Context, _ struct{}) ([]Visit, error) {
	list := []Visit{}
	for r, err := range sdk.All[Access](c, sdk.Query{Type: "access"}) {
		if err != nil {
			return nil, err
		}
		list = append(list, Visit{r.Value, r.Header.Time})
	}
	return list, nil
}

var dna = sdk.Define("health", "1",
	sdk.Function("add", add), sdk.Function("share", share), sdk.Function("unshare", unshare),
	sdk.Function("read", read), sdk.Function("fetch", fetch), sdk.Function("visits", visits))

func main() { serve.Main(dna) }
