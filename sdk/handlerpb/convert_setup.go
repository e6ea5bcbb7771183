package handlerpb

import (
	"math"
	"sort"

	"github.com/parley-p2p/parley/sdk"
)

// CheckDescription tells whether d may cross the contract.
func CheckDescription(d *sdk.Description) error {
	if err := checkText("name", d.Name, 1, maxName); err != nil {
		return err
	}
	for i := range len(d.Name) {
		if c := d.Name[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return malformed("name %q: only a-z, 0-9, '-' and '_' are allowed", d.Name)
		}
	}
	if err := checkText("integrity", d.Integrity, 0, maxIntegrity); err != nil {
		return err
	}
	if err := checkText("sdk version", d.SDK, 0, maxSDK); err != nil {
		return err
	}
	if d.Protocol != Protocol {
		return malformed("protocol %d, only %d is known", d.Protocol, Protocol)
	}
	if len(d.Functions) > maxFunctions {
		return malformed("%d functions, at most %d allowed", len(d.Functions), maxFunctions)
	}
	for i, f := range d.Functions {
		if err := checkText("function name", f, 1, maxFunction); err != nil {
			return err
		}
		if i > 0 && d.Functions[i-1] >= f {
			return malformed("function names are not sorted and unique at %q", f)
		}
	}
	if len(d.Needs) > sdk.MaxNeeds {
		return malformed("%d needs, at most %d allowed", len(d.Needs), sdk.MaxNeeds)
	}
	for _, n := range d.Needs {
		if err := sdk.CheckNeed(n); err != nil {
			return malformed("%v", err)
		}
	}
	return nil
}

func descriptionToWire(d sdk.Description) (*DescribeResponse, error) {
	if d.Protocol == 0 {
		d.Protocol = Protocol
	}
	if !sort.StringsAreSorted(d.Functions) {
		d.Functions = append([]string(nil), d.Functions...)
		sort.Strings(d.Functions)
	}
	if err := CheckDescription(&d); err != nil {
		return nil, err
	}
	return &DescribeResponse{Name: d.Name, Integrity: d.Integrity, Functions: d.Functions,
		Receives: d.Receives, Init: d.Init, Validate: d.Validate, PostCommit: d.PostCommit, Notified: d.Notified,
		Sdk: d.SDK, Protocol: uint32(d.Protocol), Needs: d.Needs}, nil
}

func descriptionFromWire(w *DescribeResponse) (sdk.Description, error) {
	if w.Protocol > 1<<30 {
		return sdk.Description{}, malformed("protocol %d", w.Protocol)
	}
	d := sdk.Description{Name: w.Name, Integrity: w.Integrity, Functions: w.Functions,
		Receives: w.Receives, Init: w.Init, Validate: w.Validate, PostCommit: w.PostCommit, Notified: w.Notified,
		SDK: w.Sdk, Protocol: int(w.Protocol), Needs: w.Needs}
	if err := CheckDescription(&d); err != nil {
		return sdk.Description{}, err
	}
	return d, nil
}

func setupToWire(s *sdk.Setup) (*SetupRequest, error) {
	if err := checkLen("properties", len(s.Properties), 0, maxProperties); err != nil {
		return nil, err
	}
	commits, err := commitLimitsToWire(&s.Commits)
	if err != nil {
		return nil, err
	}
	return &SetupRequest{Agent: s.Agent[:], Dna: s.DNA[:], Properties: s.Properties, Commits: commits}, nil
}

func setupFromWire(w *SetupRequest) (s sdk.Setup, err error) {
	if s.Agent, err = fixed[sdk.AgentID]("agent", w.Agent); err != nil {
		return s, err
	}
	if s.DNA, err = fixed[sdk.DNAHash]("DNA hash", w.Dna); err != nil {
		return s, err
	}
	s.Properties = w.Properties
	if s.Commits, err = commitLimitsFromWire(w.Commits); err != nil {
		return s, err
	}
	return s, checkLen("properties", len(w.Properties), 0, maxProperties)
}

func commitLimitsToWire(l *sdk.CommitLimits) (*CommitLimits, error) {
	for _, n := range []int{l.Entries, l.Entry, l.Bytes} {
		if n < 0 || n > math.MaxInt32 {
			return nil, malformed("commit limit %d, at most %d allowed", n, math.MaxInt32)
		}
	}
	return &CommitLimits{Entries: uint32(l.Entries), Entry: uint32(l.Entry), Bytes: uint32(l.Bytes)}, nil
}

func commitLimitsFromWire(w *CommitLimits) (sdk.CommitLimits, error) {
	if n := max(w.GetEntries(), w.GetEntry(), w.GetBytes()); n > math.MaxInt32 {
		return sdk.CommitLimits{}, malformed("commit limit %d, at most %d allowed", n, math.MaxInt32)
	}
	return sdk.CommitLimits{Entries: int(w.GetEntries()), Entry: int(w.GetEntry()), Bytes: int(w.GetBytes())}, nil
}
