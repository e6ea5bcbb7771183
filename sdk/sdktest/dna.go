package sdktest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Step is what the conformance DNA is told to do, by a client or by a message.
type Step struct {
	// Op is one of
	//
	//	echo      answer Text
	//	who       answer the call's agents and ids
	//	commit    stage Text as entry "note" N+1 times, then do Then
	//	try       stage Text as entry "note" N+1 times, spoilt as Spoil says: "type",
	//	          "own type", "visibility" or "ordering". Answer the first error
	//	query     answer the texts of all entries "note"
	//	fail      fail with handler code Text
	//	panic     panic
	//	big       answer N bytes of text
	//	send      send Then to To and answer its answer, under Proof and with a receipt
	//	          where Receipt says so; remote likewise
	//	deadline  answer the nanoseconds until the call's deadline
	//	hang      raise Text+".begun", wait for the call's end, raise Text+".ended"
	//	get       answer the note in the public entry Record, and its author as From
	//	gate      raise Text+".begun", wait for Text+".open", then do Then
	//	raise     raise the signal Text
	//	for       raise the signal Text, then From and the agents of the call's proof,
	//	          each in short
	//	wait      wait for the signal Text
	//	raised    answer "yes" if the signal Text was raised
	//	later     use the call's context once the call has returned, then raise
	//	          Text+".refused" if that failed with HandlerCodeContext
	//	leak      stage an entry, fail with an error that is no *sdk.Error
	//	then      send, then fail with handler code "my.code"
	//	delegate  sign Delegate and answer its proof
	//	grant     make the grant Grant N+1 times, then do Then; answer the last claim
	//	revoke    revoke the grant Record
	//	claim     keep Claim
	//	list      answer the Texts of all "grants", "claims" or "delegations", as Text says
	//	remote    have To do Then by a CallRemote of its function "do", or of Text
	//	notify    have Agents notified of Then, N+1 times, numbered in its Text, under
	//	          Proof; results likewise
	//	results   have Agents notified of Then, and answer what became of each
	//	emit      emit the signal Text to the agent's own clients, then do Then
	//	online    answer "online" if To is, else "heard" if it ever was
	//	many      send Then to Agents, of which N are enough; answer what became of each
	Op     string
	Text   string        `codec:",omitempty"`
	N      int           `codec:",omitempty"`
	Strict bool          `codec:",omitempty"`
	Public bool          `codec:",omitempty"`
	Record sdk.Hash      `codec:",omitempty"`
	Spoil  string        `codec:",omitempty"`
	To     sdk.AgentID   `codec:",omitempty"`
	Then   *Step         `codec:",omitempty"`
	Agents []sdk.AgentID `codec:",omitempty"`
	Grant  *sdk.Grant    `codec:",omitempty"`
	Claim  *sdk.Claim    `codec:",omitempty"`

	Delegate *sdk.Delegation `codec:",omitempty"`
	Proof    sdk.Proof       `codec:",omitempty"`
	Receipt  bool            `codec:",omitempty"`
}

// options are those of a Step's send.
func (s *Step) options() (list []sdk.SendOption) {
	if len(s.Proof) > 0 {
		list = append(list, sdk.OnBehalf(s.Proof))
	}
	if s.Receipt {
		list = append(list, sdk.WithReceipt())
	}
	return list
}

// Result is a Step's answer.
type Result struct {
	Text        string        `codec:",omitempty"`
	Texts       []string      `codec:",omitempty"`
	Agent, From sdk.AgentID   `codec:",omitempty"`
	Message     sdk.MessageID `codec:",omitempty"`
	DNA         sdk.DNAHash   `codec:",omitempty"`
	Left        time.Duration `codec:",omitempty"`
	Claim       *sdk.Claim    `codec:",omitempty"`
	Proof       sdk.Proof     `codec:",omitempty"`
	// Chain are the agents of the proof under which the call runs: the principal,
	// then to whom each link is given.
	Chain []sdk.AgentID `codec:",omitempty"`
}

// TestHost knows by signals what post_commit did: that it heard of a note "tell:X"
// by the signal "tell:X", of "again:X" by "again:X", after it failed once. A
// note "not valid" is refused, and one "not valid elsewhere" by all but its author.

// ConformanceDNA is the DNA that TestHost's nodes run, where they are processes
// by serve.Main(sdktest.ConformanceDNA()). Its function "do" and its receive
// both do a Step.
func ConformanceDNA() *sdk.Definition {
	return sdk.Define("conformance", "1",
		sdk.Function("do", do),
		sdk.Receive(do),
		sdk.Notified(func(c *sdk.Context, s Step) error {
			_, err := do(c, s)
			return err
		}),
		sdk.Init(func(*sdk.Context) error { return nil }),
		sdk.Validate(func(e *sdk.Candidate) error {
			var text string
			if err := e.Decode(&text); err != nil || text != "not valid" && (e.Own || text != "not valid elsewhere") {
				return err
			}
			return sdk.Fail("conformance.no", "own: %t", e.Own)
		}),
		sdk.PostCommit(hear),
	)
}

func do(c *sdk.Context, s Step) (r Result, err error) {
	switch s.Op {
	case "echo":
		r.Text = s.Text
	case "who":
		r.Agent, r.From, r.Message, r.DNA = c.Agent(), c.From(), c.MessageID(), c.DNA()
		return whoFor(c, r)
	case "commit":
		return doCommit(c, s)
	case "try":
		return doTry(c, s), nil
	case "query":
		notes, err := sdk.QueryAs[string](c, sdk.Query{Type: "note", Limit: 1000})
		for _, n := range notes {
			r.Texts = append(r.Texts, n.Value)
		}
		return r, err
	case "get":
		found, err := sdk.GetAs[string](c, s.Record)
		r.Text, r.From = found.Value, found.Header.Author
		return r, err
	case "fail":
		return r, sdk.Fail(s.Text, "as told")
	case "leak":
		_, _ = c.Commit("note", s.Text)
		return r, errors.New("an ordinary error")
	case "panic":
		panic("as told")
	case "big":
		b := make([]byte, (s.N+1)/2)
		_, _ = rand.Read(b) // never fails
		r.Text = hex.EncodeToString(b)[:s.N]
	case "send":
		return sdk.Send[Result](c, s.To, s.Then, s.options()...)
	case "then":
		if _, err := sdk.Send[Result](c, s.To, s.Then, s.options()...); err != nil {
			return r, err
		}
		return r, sdk.Fail("my.code", "as told, after it was sent")
	case "delegate":
		r.Proof, err = c.Delegate(*s.Delegate)
		return r, err
	case "deadline":
		if at, ok := c.Deadline(); ok {
			r.Left = time.Until(at)
		}
	case "grant", "revoke", "claim", "list", "remote":
		return doGrant(c, s)
	default:
		return doSignal(c, s)
	}
	return r, nil
}

// whoFor adds in whose name the call is made.
func whoFor(c *sdk.Context, r Result) (Result, error) {
	links, err := c.Behalf()
	principal, acts := c.OnBehalfOf()
	if err != nil || acts != (len(links) > 0) || acts && principal != links[0].From {
		return r, fmt.Errorf("on behalf of %s, %t, by %d links, %w", principal, acts, len(links), err)
	}
	for i, l := range links {
		if i == 0 {
			r.Chain = append(r.Chain, l.From)
		}
		r.Chain = append(r.Chain, l.To)
	}
	return r, nil
}

func doGrant(c *sdk.Context, s Step) (r Result, err error) {
	switch s.Op {
	case "grant":
		var claim sdk.Claim
		for range s.N + 1 {
			if claim, err = c.Grant(*s.Grant); err != nil {
				break
			}
		}
		if err != nil || s.Then == nil {
			return Result{Claim: &claim}, err
		}
		r, err = do(c, *s.Then)
		r.Claim = &claim
		return r, err
	case "revoke":
		return r, c.Revoke(s.Record)
	case "claim":
		return r, c.Claim(*s.Claim)
	case "list":
		return doList(c, s)
	}
	function := "do"
	if s.Text != "" {
		function = s.Text
	}
	return sdk.CallRemote[Result](c, s.To, function, s.Then, s.options()...)
}

func hear(_ *sdk.Context, records []sdk.Record) error {
	for _, r := range records {
		var text string
		if err := sdk.Unmarshal(r.Content, &text); err != nil {
			return err
		}
		switch kind, _, _ := strings.Cut(text, ":"); {
		case kind == "again" && !isClosed(signal(text+".failed")):
			raise(text + ".failed")
			return errors.New("as told")
		case kind == "again" || kind == "tell":
			raise(text)
		}
	}
	return nil
}

func doCommit(c *sdk.Context, s Step) (r Result, err error) {
	var options []sdk.CommitOption
	if s.Strict {
		options = append(options, sdk.AsStrict)
	}
	if s.Public {
		options = append(options, sdk.AsPublic)
	}
	for range s.N + 1 {
		if _, err := c.Commit("note", s.Text, options...); err != nil {
			return r, err
		}
	}
	if s.Then == nil {
		return r, nil
	}
	return do(c, *s.Then)
}

// spoilt is the entry of a try.
func spoilt(how string) sdk.CommitOption {
	return func(e *sdk.Entry) {
		switch how {
		case "type":
			e.Type = ""
		case "own type":
			e.Type = "parley.note"
		case "visibility":
			e.Visibility = sdk.Public + 1
		case "ordering":
			e.Ordering = sdk.Strict + 1
		}
	}
}

func doTry(c *sdk.Context, s Step) (r Result) {
	for range s.N + 1 {
		if _, err := c.Commit("note", s.Text, spoilt(s.Spoil)); err != nil {
			r.Text = err.Error()
			return r
		}
	}
	return r
}

// doSignal does the steps by which a test knows how far a call has come, where
// it would otherwise have to sleep.
func doSignal(c *sdk.Context, s Step) (r Result, err error) {
	switch s.Op {
	case "hang":
		raise(s.Text + ".begun")
		<-c.Done()
		raise(s.Text + ".ended")
		return r, c.Err()
	case "gate":
		raise(s.Text + ".begun")
		if err := await(c, s.Text+".open"); err != nil {
			return r, err
		}
		return do(c, *s.Then)
	case "raise":
		raise(s.Text)
		return r, nil
	case "for":
		r, err = whoFor(c, r)
		text := s.Text + c.From().Short()
		for _, a := range r.Chain {
			text += a.Short()
		}
		raise(text)
		return r, err
	case "wait":
		return r, await(c, s.Text)
	case "raised":
		if isClosed(signal(s.Text)) {
			r.Text = "yes"
		}
		return r, nil
	case "later":
		go later(c, s.Text)
		return r, nil
	}
	return doNotice(c, s)
}

// later outlives its call on purpose; it ends as soon as the call does.
func later(c *sdk.Context, signal string) {
	<-c.Done()
	_, err := c.Commit("note", "too late")
	if e, ok := errors.AsType[*sdk.Error](err); ok && e.HandlerCode == sdk.HandlerCodeContext {
		raise(signal + ".refused")
		return
	}
	raise(signal + ".accepted: " + fmt.Sprint(err))
}

// signals belong to the process, and each is named by its test: what a test
// raises another can't see.
var signals = struct {
	mu     sync.Mutex
	raised map[string]chan struct{}
}{raised: map[string]chan struct{}{}}

func signal(name string) chan struct{} {
	signals.mu.Lock()
	defer signals.mu.Unlock()
	ch := signals.raised[name]
	if ch == nil {
		ch = make(chan struct{})
		signals.raised[name] = ch
	}
	return ch
}

func raise(name string) {
	ch := signal(name)
	signals.mu.Lock()
	defer signals.mu.Unlock()
	if !isClosed(ch) {
		close(ch)
	}
}

func await(ctx context.Context, name string) error {
	select {
	case <-signal(name):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
