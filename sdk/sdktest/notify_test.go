package sdktest_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// noticeDNA keeps what it is told of, in its order, and says so to its own clients.
type noticeDNA struct {
	mu   sync.Mutex
	took map[sdk.AgentID][]int
	most map[sdk.AgentID]int
	now  map[sdk.AgentID]int
}

type noticeIn struct {
	To   []sdk.AgentID
	N    int
	Wait bool
}

func (d *noticeDNA) define() *sdk.Definition {
	d.took, d.most, d.now = map[sdk.AgentID][]int{}, map[sdk.AgentID]int{}, map[sdk.AgentID]int{}
	return sdk.Define("notices", "1",
		sdk.Function("tell", func(c *sdk.Context, in noticeIn) (texts []string, err error) {
			for i := range in.N {
				if !in.Wait {
					if err := sdk.Notify(c, in.To, i); err != nil {
						return nil, err
					}
					continue
				}
				results, err := sdk.NotifyAndWait(c, in.To, i)
				if err != nil {
					return nil, err
				}
				for _, err := range results {
					text := "ok"
					if e, is := errors.AsType[*sdk.Error](err); is {
						text = e.Code.Name()
					}
					texts = append(texts, text)
				}
			}
			return texts, nil
		}),
		sdk.Function("online", func(c *sdk.Context, a sdk.AgentID) (bool, error) {
			p, err := c.Online(a)
			return p.Online, err
		}),
		sdk.Function("heard", func(c *sdk.Context, a sdk.AgentID) (time.Time, error) {
			p, err := c.Online(a)
			return p.LastHeard, err
		}),
		sdk.Function("echoes", func(c *sdk.Context, to []sdk.AgentID) (n int, err error) {
			answers, err := sdk.SendMany[int](c, to, 1, sdk.First(2))
			for _, a := range answers {
				n += a.Value
			}
			return n, err
		}),
		sdk.Receive(func(_ *sdk.Context, n int) (int, error) { return n, nil }),
		sdk.Notified(func(c *sdk.Context, n int) error {
			a := c.Agent()
			d.mu.Lock()
			d.now[a]++
			d.most[a] = max(d.most[a], d.now[a])
			d.mu.Unlock()
			time.Sleep(time.Millisecond)
			d.mu.Lock()
			d.now[a]--
			d.took[a] = append(d.took[a], n)
			d.mu.Unlock()
			return c.Emit(n)
		}))
}

func (d *noticeDNA) tookBy(a sdk.AgentID) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.took[a])
}

// Notifications run in their order, one at a time, and an agent that is away costs
// the others nothing.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d noticeDNA
		net := sdktest.New(t)
		def := d.define()
		alice, bob, carol := net.Node("alice", def), net.Node("bob", def), net.Node("carol", def)
		net.Delay(alice, bob, 50*time.Millisecond)
		net.Stop(carol)
		began := time.Now()
		if _, err := sdktest.Call[[]string](alice, "tell", noticeIn{To: []sdk.AgentID{carol.ID(), sdktest.ID("nobody"), bob.ID(), alice.ID()}, N: 100}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("Notify took %s", took)
		}
		net.Settle()
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("100 took %s: they do not wait for one another's way", took)
		}
		var want []int
		for i := range 100 {
			want = append(want, i)
		}
		for _, x := range []*sdktest.Node{alice, bob} {
			if got := d.tookBy(x.ID()); !slices.Equal(got, want) || d.most[x.ID()] != 1 {
				t.Errorf("%s took %v, %d at once", x.Name(), got, d.most[x.ID()])
			}
			if got := sdktest.SignalsAs[int](x); !slices.Equal(got, want) {
				t.Errorf("%s emitted %v", x.Name(), got)
			}
		}
	})
}

// Who waits has a result of each agent, and a true one.
func TestNotifyAndWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d noticeDNA
		net := sdktest.New(t)
		def := d.define()
		alice, bob, carol := net.Node("alice", def), net.Node("bob", def), net.Node("carol", def)
		dave := net.Node("dave", sdk.Define("notices", "1", sdk.Receive(func(*sdk.Context, int) (int, error) { return 0, nil })))
		eve := net.Node("eve", def)
		eve.Block(alice.ID())
		net.Stop(carol)
		to := []sdk.AgentID{bob.ID(), carol.ID(), sdktest.ID("nobody"), dave.ID(), eve.ID(), alice.ID()}
		got, err := sdktest.Call[[]string](alice, "tell", noticeIn{To: to, N: 1, Wait: true})
		want := []string{"ok", sdk.Unreachable.Name(), sdk.UnknownAgent.Name(), sdk.NoHandler.Name(), sdk.Refused.Name(), "ok"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		// The way back is cut while notified runs: nobody knows.
		net.Delay(alice, bob, time.Second)
		go func() {
			time.Sleep(1500 * time.Millisecond)
			net.Cut(alice, bob)
		}()
		got, err = sdktest.Call[[]string](alice, "tell", noticeIn{To: to[:1], N: 2, Wait: true})
		want = []string{sdk.OutcomeUnknown.Name(), sdk.Unreachable.Name()}
		if err != nil || !slices.Equal(got, want) || len(d.tookBy(bob.ID())) != 2 {
			t.Errorf("%v, %v; want %v; bob took %v", got, err, want, d.tookBy(bob.ID()))
		}
	})
}

func TestOnlineAndMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d noticeDNA
		net := sdktest.New(t)
		def := d.define()
		alice, bob, carol := net.Node("alice", def), net.Node("bob", def), net.Node("carol", def)
		state := func() string {
			online, err := sdktest.Call[bool](alice, "online", bob.ID())
			heard, err2 := sdktest.Call[time.Time](alice, "heard", bob.ID())
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			ago := "never"
			if !heard.IsZero() {
				ago = time.Since(heard).String()
			}
			return fmt.Sprint(online, " ", ago)
		}
		want := func(text string) {
			t.Helper()
			if got := state(); got != text {
				t.Errorf("bob is %s, want %s", got, text)
			}
		}
		want("false never")
		n, err := sdktest.Call[int](alice, "echoes", []sdk.AgentID{bob.ID(), carol.ID()})
		if n != 2 || err != nil {
			t.Errorf("%d answers, %v", n, err)
		}
		want("true 0s")
		time.Sleep(time.Minute)
		want("true 0s")
		net.Stop(bob)
		time.Sleep(time.Minute)
		want("false 1m0s")
		net.Start(bob)
		want("false 1m0s")
		_, err = sdktest.Call[int](alice, "echoes", []sdk.AgentID{bob.ID(), sdktest.ID("nobody")})
		if e, _ := errors.AsType[*sdk.Error](err); e == nil || e.HandlerCode != sdk.HandlerCodeQuorum {
			t.Errorf("two answers of one agent: %v", err)
		}
		want("true 0s")
		net.Cut(alice, bob)
		net.Cut(alice, bob)
		want("false 0s")
	})
}
