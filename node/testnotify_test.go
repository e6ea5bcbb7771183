package node

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// testNotify asks for N notifications, numbered from From, to each of To.
type testNotify struct {
	To      []sdk.AgentID
	From, N int
	Size    int    // bytes of each, beside its number
	Do      string // see testNotice
	Wait    bool
	Within  time.Duration
}

// testNotice is a notification of the test DNA.
type testNotice struct {
	N    int
	Do   string // "commit": an entry; "fail"; "gate": waits until the file Text is there
	Text string
	Data []byte
}

// testResult is what became of one notification.
type testResult struct {
	N     int
	Agent sdk.AgentID
	Err   string // empty: taken
	Code  sdk.Code
	Sure  bool // it is known whether notified ran
	Ran   bool
}

func testNotifyFunction(c *sdk.Context, in testNotify) (out []testResult, err error) {
	if in.Within > 0 {
		limited, cancel := c.WithTimeout(in.Within)
		defer cancel()
		c = limited
	}
	data := make([]byte, in.Size)
	if !in.Wait {
		for i := range in.N {
			if err := sdk.Notify(c, in.To, testNotice{N: in.From + i, Do: in.Do, Data: data}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	all := make([][]error, in.N)
	var wg sync.WaitGroup // they overlap, as nobody else's notifications would otherwise
	slots := make(chan struct{}, 32)
	for i := range in.N {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results, err := sdk.NotifyAndWait(c, in.To, testNotice{N: in.From + i, Do: in.Do, Data: data})
			if err != nil {
				results = make([]error, len(in.To))
				for j := range results {
					results[j] = err
				}
			}
			all[i] = results
		})
	}
	wg.Wait()
	for i, results := range all {
		for j, err := range results {
			r := testResult{N: in.From + i, Agent: in.To[j], Sure: true, Ran: true}
			if e, ok := err.(*sdk.Error); ok {
				r.Err, r.Code, r.Sure, r.Ran = e.Error(), e.Code, e.Delivered != sdk.DeliveredUnknown, e.Delivered == sdk.DeliveredYes
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// heard are the notifications that this process has taken, by the agent that took them.
var heard = struct {
	sync.Mutex
	by map[sdk.AgentID][]int
}{by: map[sdk.AgentID][]int{}}

func testNotified(c *sdk.Context, n testNotice) error {
	switch n.Do {
	case "commit":
		if _, err := c.Commit("note", testMessage{Text: strconv.Itoa(n.N)}); err != nil {
			return err
		}
	case "fail":
		return sdk.Fail("declined", "not today")
	case "wait":
		<-c.Done()
		return c.Err()
	case "exit":
		os.Exit(3)
	}
	heard.Lock()
	defer heard.Unlock()
	heard.by[c.Agent()] = append(heard.by[c.Agent()], n.N)
	return nil
}

// testHeard is how many notifications an agent has taken that are numbered from
// From on, and the first that did not come in its place.
type testHeard struct {
	From, N int
	Wrong   string
}

func testHeardFunction(c *sdk.Context, in testHeard) (testHeard, error) {
	heard.Lock()
	defer heard.Unlock()
	for _, n := range heard.by[c.Agent()] {
		if n < in.From {
			continue
		}
		if n != in.From+in.N && in.Wrong == "" {
			in.Wrong = fmt.Sprintf("notification %d came as number %d", n, in.From+in.N)
		}
		in.N++
	}
	return in, nil
}
