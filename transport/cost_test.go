package transport

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestFramesDoNotAllocate holds the frame path, out and in, to no allocation
// in the steady state.
func TestFramesDoNotAllocate(t *testing.T) {
	out, _ := newDirection([32]byte{1})
	in, _ := newDirection([32]byte{1})
	var q outQueue
	c := &call{deadline: time.Unix(200, 0)}
	small := &outMsg{call: c, typ: typeRequest, header: make([]byte, 40), body: make([]byte, 100)}
	large := &outMsg{call: c, typ: typeResponse, id: 1, body: make([]byte, 200<<10)}
	w := &writeBuf{b: make([]byte, batchSize)}
	frames := 0
	began, ended := func(*outMsg) {}, func(*outMsg) {}
	got := testing.AllocsPerRun(200, func() {
		*small = outMsg{call: c, typ: typeRequest, header: small.header, body: small.body}
		large.off, large.started = 0, false
		q.push(small)
		q.push(large)
		for !q.empty() {
			w.n = 0
			q.pack(w, time.Unix(100, 0), began, ended)
			b, err := w.seal(out)
			for err == nil && len(b) > 0 {
				var ct, plain []byte
				if ct, b, _, err = nextRecord(b); err != nil {
					break
				}
				for plain, err = in.open(ct); err == nil && len(plain) > 0; frames++ {
					var f frame
					if f, plain, err = nextFrame(plain); err == nil && f.typ == typeRequest {
						_, _, _, err = parseRequest(f.payload)
					}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	if got != 0 || frames < 200*5 {
		t.Errorf("%v allocations, %d frames", got, frames)
	}
}

// TestIdleSessionIsSmall holds an idle session to 24 KiB and 2 goroutines, also
// after it was busy. It is not parallel: it counts the process's.
func TestIdleSessionIsSmall(t *testing.T) {
	const n = 40
	server := startNode(t, testConfig(t, nil))
	clients := make([]*node, n)
	for i := range clients {
		c := testConfig(t, nil)
		c.Listen = ""
		clients[i] = startNode(t, c)
	}
	cost := func() (memory uint64, goroutines int) {
		runtime.GC()
		runtime.GC() // sync.Pools are empty after the second
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
	}
	memory, goroutines := cost()
	sessions := make([]*Session, n)
	for i, c := range clients {
		sessions[i] = c.to(t, server)
		if _, err := sessions[i].Request(t.Context(), Outgoing{Body: make([]byte, 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sessions {
		for range quietReads + 1 {
			if _, err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // idle workers end within two ticks
		server.workers.tick()
	}
	for i := 0; i < 300 && runtime.NumGoroutine() > goroutines+2*2*n; i++ {
		runtime.GC()
		runtime.Gosched()
	}
	m, g := cost()
	if per := (float64(m) - float64(memory)) / (2 * n); per > 24<<10 {
		t.Errorf("%.0f bytes for an idle session", per)
	} else {
		t.Logf("%.0f bytes and %.1f goroutines for an idle session", per, float64(g-goroutines)/(2*n))
	}
	if g-goroutines > 2*2*n {
		t.Errorf("%d goroutines for %d ends of idle sessions", g-goroutines, 2*n)
	}
	runtime.KeepAlive(sessions)
}

func TestSizes(t *testing.T) { bothWays(t, testSizes) }

func testSizes(t *testing.T, w way) {
	t.Parallel()
	c := testConfig(t, w.serve(t, handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		if r.Kind == 9 {
			return nil, &PeerError{Body: bytes.Repeat([]byte{3}, len(r.Body))}
		}
		return make([]byte, 5000), nil
	}}))
	c.MaxMessage = 100 << 10
	b := startNode(t, c)
	c = testConfig(t, nil)
	c.MaxMessage = 4000
	a, big := startNode(t, c), startNode(t, testConfig(t, nil))
	s := a.to(t, b)
	_, err := w.request(s, t.Context(), Outgoing{Header: make([]byte, MaxHeader+1)})
	if re := requestError(t, err); re.Code != TooLarge || re.Sent || re.Max != MaxHeader {
		t.Errorf("%+v", re)
	}
	_, err = w.request(s, t.Context(), Outgoing{Body: make([]byte, 4001)})
	if re := requestError(t, err); re.Code != TooLarge || re.Sent || re.Remote || re.Max != 4000 || re.Setting != "MaxMessage" {
		t.Errorf("%+v", re)
	}
	_, err = w.request(s, t.Context(), Outgoing{})
	if re := requestError(t, err); re.Code != TooLarge || !re.Sent || !re.Remote || !re.Served || re.Value != 5000 || re.Max != 4000 {
		t.Errorf("a reply that is too large: %+v", re)
	}
	s = big.to(t, b)
	_, err = w.request(s, t.Context(), Outgoing{Body: make([]byte, 100<<10+1)})
	if re := requestError(t, err); re.Code != TooLarge || re.Sent || !re.Remote || re.Max != 100<<10 {
		t.Errorf("the peer's limit: %+v", re)
	}
	for _, size := range []int{0, 10, 5000, 90 << 10} {
		_, err = w.request(s, t.Context(), Outgoing{Kind: 9, Body: make([]byte, size)})
		var pe *PeerError
		if !errors.As(err, &pe) || !bytes.Equal(pe.Body, bytes.Repeat([]byte{3}, size)) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestHandlerFailure(t *testing.T) { bothWays(t, testHandlerFailure) }

func testHandlerFailure(t *testing.T, w way) {
	t.Parallel()
	b := startNode(t, testConfig(t, w.serve(t, handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		return nil, errors.New("a secret")
	}})))
	a := startNode(t, testConfig(t, nil))
	_, err := w.request(a.to(t, b), t.Context(), Outgoing{})
	if re := requestError(t, err); re.Code != Unsupported || !re.Remote || !re.Served || !re.Sent {
		t.Errorf("%+v", re)
	}
}

func TestNotifyAndPing(t *testing.T) {
	t.Parallel()
	got := make(chan *Request, 2)
	b := startNode(t, testConfig(t, handlerFunc{notify: func(ctx context.Context, r *Request) { got <- r }}))
	a := startNode(t, testConfig(t, nil))
	s := a.to(t, b)
	for _, size := range []int{5, 300 << 10} {
		o := Outgoing{Kind: 3, ID: [16]byte{1, 2}, Header: []byte("h"), Body: bytes.Repeat([]byte{4}, size)}
		if err := s.Notify(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		r := <-got
		if r.Kind != 3 || r.ID != o.ID || string(r.Header) != "h" || !bytes.Equal(r.Body, o.Body) || r.Peer != a.key() || !r.Addr.IsValid() {
			t.Errorf("%+v", r)
		}
	}
	rtt, err := s.Ping(t.Context())
	if err != nil || rtt <= 0 || s.RTT() != rtt {
		t.Errorf("%s, %s: %v", rtt, s.RTT(), err)
	}
	if in := a.Sessions()[0]; in.Peer != b.key() || !in.Initiator || in.BytesIn == 0 || in.BytesOut < 300<<10 || in.Skew.Abs() > time.Minute {
		t.Errorf("%+v", in)
	}
}

func TestLimitsOfCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		ended := make(chan error, 10)
		b := memNode(t, n, 2, blocking(ended), func(c *Config) { c.MaxRequests = 1 })
		other := memNode(t, n, 3, nil, nil)
		a := memNode(t, n, 1, nil, func(c *Config) { c.MaxWaiting, c.MaxSessions, c.MaxDials = 1, 1, 1 })
		n.silent[memAddrOf(9)] = true
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 2)
		go func() {
			_, _, err := a.Session(ctx, other.key(), []netip.AddrPort{memAddrOf(9)})
			results <- err
		}()
		synctest.Wait()
		_, _, err := a.Session(ctx, b.key(), []netip.AddrPort{b.Addr()})
		if re := requestError(t, err); re.Code != Busy || re.Setting != "MaxDials" {
			t.Errorf("%+v", re)
		}
		cancel()
		if re := requestError(t, <-results); re.Code != Canceled || re.Sent {
			t.Errorf("%+v", re)
		}
		synctest.Wait()
		s := a.to(t, b)
		_, _, err = a.Session(t.Context(), other.key(), []netip.AddrPort{other.Addr()})
		if re := requestError(t, err); re.Code != Busy || re.Setting != "MaxSessions" {
			t.Errorf("%+v", re)
		}
		var cancels [2]context.CancelFunc
		for i := range cancels { // one is served, one waits
			ctx, cancel := context.WithCancel(t.Context())
			cancels[i] = cancel
			go func() {
				_, err := s.Request(ctx, Outgoing{})
				results <- err
			}()
			synctest.Wait()
		}
		_, err = s.Request(t.Context(), Outgoing{})
		if re := requestError(t, err); re.Code != Busy || re.Setting != "MaxWaiting" || re.Sent || re.Remote {
			t.Errorf("%+v", re)
		}
		for _, i := range []int{1, 0} { // who waits first, who would get the place else
			cancels[i]()
			if re := requestError(t, <-results); re.Code != Canceled || re.Sent != (i == 0) {
				t.Errorf("request %d: %+v", i, re)
			}
		}
		for _, n := range []*node{a, b, other} {
			n.stop()
		}
	})
}

func TestDuty(t *testing.T) {
	t.Parallel()
	times := &Config{}
	*times = times.withDefaults()
	s := int64(time.Second)
	base := condition{now: 100000 * s, heard: 100000 * s, sent: 100000 * s, opened: 99999 * s, initiator: true, busy: 99900 * s, quiet: 600 * s, every: 100 * s, spoke: 99999 * s}
	silent := func(c *condition, heard, pinged int64) {
		c.heard, c.sent, c.pinged = c.now-heard*s, c.now-pinged*s, c.now-pinged*s
	}
	for name, c := range map[string]struct {
		change func(*condition)
		want   duty
	}{
		"nothing":                             {func(c *condition) {}, dutyNone},
		"nothing sent":                        {func(c *condition) { c.sent -= 9 * s }, dutyPing},
		"nothing heard for 19 s":              {func(c *condition) { c.heard -= 19 * s }, dutyNone},
		"nothing heard":                       {func(c *condition) { c.heard -= 21 * s }, dutyDead},
		"nothing heard, and just pinged":      {func(c *condition) { silent(c, 21, 1) }, dutyDead},
		"quiet, nothing sent for 99 s":        {func(c *condition) { c.busy = 0; c.sent -= 99 * s; c.initiator = false }, dutyNone},
		"quiet, nothing sent":                 {func(c *condition) { c.busy = 0; c.sent -= 101 * s; c.initiator = false }, dutyPing},
		"quiet, the initiator, for 89 s":      {func(c *condition) { c.busy = 0; c.sent -= 89 * s }, dutyNone},
		"quiet, the initiator":                {func(c *condition) { c.busy = 0; c.sent -= 91 * s }, dutyPing},
		"quiet, background, for 599 s":        {func(c *condition) { c.busy = 0; c.every = 600 * s; c.sent -= 599 * s; c.initiator = false }, dutyNone},
		"quiet, background":                   {func(c *condition) { c.busy = 0; c.every = 600 * s; c.sent -= 601 * s; c.initiator = false }, dutyPing},
		"quiet, background, initiator, 589 s": {func(c *condition) { c.busy = 0; c.every = 600 * s; c.sent -= 589 * s }, dutyNone},
		"quiet, background, initiator":        {func(c *condition) { c.busy = 0; c.every = 600 * s; c.sent -= 591 * s }, dutyPing},
		"quiet, not heard for 749 s":          {func(c *condition) { c.busy = 0; c.heard -= 749 * s }, dutyNone},
		"quiet, not heard":                    {func(c *condition) { c.busy = 0; c.heard -= 751 * s }, dutyPing},
		"quiet, not heard, of one at 100 s":   {func(c *condition) { c.busy, c.quiet = 0, 100*s; c.heard -= 126 * s }, dutyPing},
		"quiet, of one at 1 s, for 8 s":       {func(c *condition) { c.busy, c.quiet = 0, s; c.heard -= 8 * s }, dutyNone},
		"quiet, pinged just now":              {func(c *condition) { c.busy = 0; silent(c, 751, 1) }, dutyNone},
		"quiet, pinged 20 s ago":              {func(c *condition) { c.busy = 0; silent(c, 100, 20) }, dutyNone},
		"quiet, a ping without an answer":     {func(c *condition) { c.busy = 0; silent(c, 100, 21) }, dutyDead},
		"woken, a ping without an answer":     {func(c *condition) { c.busy = c.now; silent(c, 100, 21) }, dutyDead},
		"woken":                               {func(c *condition) { c.busy = c.now; c.heard -= 9 * s }, dutyPing},
		"woken, heard just now":               {func(c *condition) { c.busy = c.now; c.heard -= 7 * s }, dutyNone},
		"woken 20 s ago":                      {func(c *condition) { c.busy = c.now - 20*s; c.heard -= 200 * s }, dutyNone},
		"woken 21 s ago, nothing heard":       {func(c *condition) { c.busy = c.now - 21*s; c.heard -= 200 * s }, dutyDead},
		"woken 21 s ago, heard before that":   {func(c *condition) { c.busy = c.now - 21*s; c.heard -= 19 * s }, dutyNone},
		"a message 5 s ago":                   {func(c *condition) { c.busy, c.talking = c.now-15*s, c.now-5*s; c.heard -= 200 * s }, dutyNone},
		"a message 6 s ago, nothing heard":    {func(c *condition) { c.busy, c.talking = c.now-6*s, c.now-6*s; c.heard -= 200 * s }, dutyDead},
		"a message 6 s ago, heard before":     {func(c *condition) { c.busy, c.talking = c.now-6*s, c.now-6*s; c.heard -= 19 * s }, dutyNone},
		"a write stalls":                      {func(c *condition) { c.writing = c.now - 21*s }, dutyDead},
		"old":                                 {func(c *condition) { c.opened -= 3600 * s }, dutyRenew},
		"old, tried just now":                 {func(c *condition) { c.opened -= 3600 * s; c.tried = c.now - s }, dutyNone},
		"old, responder":                      {func(c *condition) { c.opened -= 3600 * s; c.initiator = false }, dutyNone},
		"twice as old, responder":             {func(c *condition) { c.opened -= 7200 * s; c.spoke -= 7200 * s; c.initiator = false }, dutyRenew},
		"old, background":                     {func(c *condition) { c.opened -= 24*3600*s - 2*s; c.spoke = 0 }, dutyNone},
		"older, background":                   {func(c *condition) { c.opened -= 24 * 3600 * s; c.spoke = 0 }, dutyRenew},
		"as old, background, responder":       {func(c *condition) { c.opened -= 24 * 3600 * s; c.spoke = 0; c.initiator = false }, dutyNone},
		"48 h old, background, responder":     {func(c *condition) { c.opened -= 48 * 3600 * s; c.spoke = 0; c.initiator = false }, dutyRenew},
		"renewed after messages":              {func(c *condition) { c.opened -= 3600 * s; c.spoke, c.heir = 0, true }, dutyRenew},
		"renewed after messages, responder":   {func(c *condition) { c.opened -= 40 * 3600 * s; c.spoke, c.heir, c.initiator = 0, true, false }, dutyNone},
		"the same, 48 h old":                  {func(c *condition) { c.opened -= 48 * 3600 * s; c.spoke, c.heir, c.initiator = 0, true, false }, dutyRenew},
		"background, but a message now":       {func(c *condition) { c.opened -= 3600 * s; c.spoke = c.now }, dutyRenew},
		"its responder leaves it to the peer": {func(c *condition) { c.opened -= 40 * 3600 * s; c.spoke = c.now - 3599*s; c.initiator = false }, dutyNone},
		"its responder, an hour later":        {func(c *condition) { c.opened -= 40 * 3600 * s; c.spoke = c.now - 3601*s; c.initiator = false }, dutyRenew},
		"64 GiB":                              {func(c *condition) { c.bytes = 64 << 30 }, dutyRenew},
		"64 GiB, responder":                   {func(c *condition) { c.bytes = 64 << 30; c.initiator = false }, dutyNone},
		"old, draining":                       {func(c *condition) { c.opened -= 3600 * s; c.drained = c.now - s }, dutyNone},
		"draining for long, but a body moves": {func(c *condition) { c.drained, c.moved = c.now-500*s, c.now-119*s }, dutyNone},
		"draining for long, a body has moved": {func(c *condition) { c.drained, c.moved = c.now-500*s, c.now-121*s }, dutyDrainOver},
		"draining for too long":               {func(c *condition) { c.drained = c.now - 121*s }, dutyDrainOver},
	} {
		now := base
		c.change(&now)
		if got := now.duty(&times.Times); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
