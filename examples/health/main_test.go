package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func fetchFrom(doctor, patient *sdktest.Node) ([]Note, error) {
	return sdktest.Call[[]Note](doctor, "fetch", Fetch{Patient: patient.ID()})
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, sdk.Refused) {
		t.Errorf("%s: %v, want %v", what, err, sdk.Refused)
	}
}

func TestOnlyTheDoctorReads(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, doctor, mallory := net.Node("alice", dna), net.Node("doctor", dna), net.Node("mallory", dna)
	note := Note{Title: "blood test", Text: "all is well"}
	if _, err := sdktest.Call[sdk.Hash](alice, "add", note); err != nil {
		t.Fatal(err)
	}
	_, err := fetchFrom(doctor, alice)
	refused(t, "before", err)

	grant, err := sdktest.Call[sdk.Hash](alice, "share", Share{Doctor: doctor.ID(), For: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fetchFrom(doctor, alice); err != nil || len(got) != 1 || got[0] != note {
		t.Errorf("the doctor reads %+v, %v", got, err)
	}
	_, err = fetchFrom(mallory, alice)
	refused(t, "another one", err)

	if _, err := sdktest.Call[struct{}](alice, "unshare", grant); err != nil {
		t.Fatal(err)
	}
	_, err = fetchFrom(doctor, alice)
	refused(t, "after", err)

	list, err := sdktest.Call[[]Visit](alice, "visits", struct{}{})
	if err != nil || len(list) != 1 || list[0].Access != (Access{Doctor: doctor.ID(), Notes: 1}) {
		t.Errorf("visits: %+v, %v", list, err)
	}
	for _, other := range []*sdktest.Node{doctor, mallory} {
		if got := sdktest.Entries[Note](other, "note"); len(got) != 0 {
			t.Errorf("%s keeps %+v", other.Name(), got)
		}
	}
}

func TestTheGrantEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, doctor := net.Node("alice", dna), net.Node("doctor", dna)
		if _, err := sdktest.Call[sdk.Hash](alice, "share", Share{Doctor: doctor.ID(), For: time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		if _, err := fetchFrom(doctor, alice); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		_, err := fetchFrom(doctor, alice)
		refused(t, "after an hour", err)
	})
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	alice := sdktest.New(t).Node("alice", dna)
	for function, in := range map[string]any{"add": Note{Text: "x"}, "share": Share{Doctor: alice.ID()}} {
		_, err := sdktest.Call[sdk.Hash](alice, function, in)
		if e, ok := errors.AsType[*sdk.Error](err); !ok || e.Code != sdk.HandlerFailed || e.HandlerCode == "" {
			t.Errorf("%s: %v", function, err)
		}
	}
}
