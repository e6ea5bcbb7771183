package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func shown(t *testing.T, n *sdktest.Node) Board {
	t.Helper()
	b, err := sdktest.Call[Board](n, "show", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Two write at the same time, in the same cells too, and see the same board.
func TestTwoWriteAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, bob := net.Node("alice", dna), net.Node("bob", dna)
		var wg sync.WaitGroup
		for _, x := range []struct {
			me, other *sdktest.Node
			mark      string
		}{{alice, bob, "x"}, {bob, alice, "o"}} {
			for i := range 10 {
				wg.Go(func() {
					_, err := sdktest.Call[Move](x.me, "put", Put{Cell: fmt.Sprintf("%c%d", 'a'+i%8, 1+i%3), Mark: x.mark, With: []sdk.AgentID{x.other.ID()}})
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		synctest.Wait()
		if a, b := shown(t, alice), shown(t, bob); !reflect.DeepEqual(a, b) || a.Moves != 20 {
			t.Errorf("alice sees\n%v\nbob\n%v", a, b)
		}
	})
}

// Who was away catches up, both ways at once.
func TestSync(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", dna), net.Node("bob", dna)
	for i, n := range []*sdktest.Node{alice, bob} {
		if _, err := sdktest.Call[Move](n, "put", Put{Cell: "a1", Mark: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := sdktest.Call[Board](alice, "sync", bob.ID())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := shown(t, alice), shown(t, bob); !reflect.DeepEqual(a, b) || !reflect.DeepEqual(a, got) || a.Moves != 2 {
		t.Errorf("alice sees\n%v\nbob\n%v\nsync answered\n%v", a, b, got)
	}
}

func TestDrawDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var all []Move
	for i := range 200 {
		all = append(all, Move{ID: sdk.MessageID{byte(i), byte(r.Uint32())}, Cell: fmt.Sprintf("%c%d", 'a'+r.IntN(3), 1+r.IntN(3)),
			Mark: string(rune('a' + r.IntN(26))), Clock: r.Uint64N(20), Author: sdk.AgentID{byte(r.IntN(3))}})
	}
	want := draw(all)
	for range 50 {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if got := draw(append(all, all[:50]...)); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n%v", got, want)
		}
	}
}

func TestBadMoves(t *testing.T) {
	t.Parallel()
	alice := sdktest.New(t).Node("alice", dna)
	for _, p := range []Put{{Cell: "i1", Mark: "x"}, {Cell: "a9", Mark: "x"}, {Cell: "", Mark: "x"}, {Cell: "a1", Mark: "xy"}} {
		_, err := sdktest.Call[Move](alice, "put", p)
		if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode == "" {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if n := len(alice.Chain()); n != 1 {
		t.Errorf("%d records", n)
	}
}
