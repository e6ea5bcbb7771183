package sdk

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/delegations.json anew")

// testKey is the agent of a name, with sign bit 0.
func testKey(name string) ed25519.PrivateKey {
	for i := range 256 {
		seed := sha256.Sum256(append([]byte("delegation-test-"+name), byte(i)))
		key := ed25519.NewKeyFromSeed(seed[:])
		if key[63]&0x80 == 0 {
			return key
		}
	}
	panic("no key")
}

func testAgent(name string) AgentID {
	return AgentID(testKey(name).Public().(ed25519.PublicKey))
}

var (
	testNow = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	testDNA = DNAHash(sha256.Sum256([]byte("delegation-test-dna")))
)

// proofCase is one vector of testdata/delegations.json.
type proofCase struct {
	Name      string `json:"name"`
	Proof     string `json:"proof"` // hex
	Now       int64  `json:"now"`   // unix µs
	Presenter string `json:"presenter"`
	DNA       string `json:"dna"`
	To        string `json:"to"`
	Function  string `json:"function"`
	Payload   int    `json:"payload"`
	// Verdict is "ok" or the rule that is broken, Link the link that breaks it, from
	// 0; -1: the proof as a whole.
	Verdict   string   `json:"verdict"`
	Link      int      `json:"link"`
	Principal string   `json:"principal,omitempty"`
	IDs       []string `json:"ids,omitempty"` // of the links
}

// chain3 is alice -> bob -> carol -> dave, each narrower than the one before.
func chain3() []Link {
	hour := func(n int) time.Time { return testNow.Add(time.Duration(n) * time.Hour) }
	agents := []AgentID{testAgent("erin"), testAgent("frank")}
	slices.SortFunc(agents, compareAgents)
	return []Link{
		{From: testAgent("alice"), To: testAgent("bob"), NotBefore: hour(-9), Expires: hour(9), Depth: 3, All: true, Messages: true,
			Uses: 100, Rate: Rate{10, time.Minute}, MaxPayload: 1000},
		{From: testAgent("bob"), To: testAgent("carol"), NotBefore: hour(-8), Expires: hour(8), Depth: 2, Functions: []string{"bid", "look"}, Messages: true,
			Agents: agents, Uses: 50, Rate: Rate{5, time.Minute}, MaxPayload: 500},
		{From: testAgent("carol"), To: testAgent("dave"), NotBefore: hour(-8), Expires: hour(7), Functions: []string{"bid"}, Messages: true,
			Agents: []AgentID{testAgent("erin")}, Uses: 50, Rate: Rate{5, 2 * time.Minute}, MaxPayload: 500},
	}
}

// seal links and signs; what a change did to Parent or DNA before stays.
func seal(links []Link, after func([]Link)) Proof {
	for i := range links {
		l := &links[i]
		l.Nonce = [16]byte{byte(i + 1)}
		if l.DNA.IsZero() {
			l.DNA = testDNA
		}
		if i > 0 && l.Parent.IsZero() {
			l.Parent = links[i-1].ID()
		}
		for _, name := range []string{"alice", "bob", "carol", "dave", "mallory"} {
			if testAgent(name) == l.From {
				copy(l.Signature[:], ed25519.Sign(testKey(name), LinkSigningBytes(l.ID())))
			}
		}
	}
	if after != nil {
		after(links)
	}
	return appendProof(links)
}

func proofCases(t testing.TB) (out []proofCase) {
	use := Use{Presenter: testAgent("dave"), DNA: testDNA, To: testAgent("erin"), Function: "bid", Payload: 500}
	now := testNow
	add := func(name, verdict string, link int, p Proof, now time.Time, u Use) {
		c := proofCase{Name: name, Proof: hex.EncodeToString(p), Now: now.UnixMicro(), Presenter: hex.EncodeToString(u.Presenter[:]),
			DNA: hex.EncodeToString(u.DNA[:]), To: hex.EncodeToString(u.To[:]), Function: u.Function, Payload: u.Payload, Verdict: verdict, Link: link}
		if verdict == "ok" {
			links, err := p.Links()
			if err != nil {
				t.Fatal(name, err)
			}
			for i := range links {
				id := links[i].ID()
				c.IDs = append(c.IDs, hex.EncodeToString(id[:]))
			}
			c.Principal = hex.EncodeToString(links[0].From[:])
		}
		out = append(out, c)
	}
	change := func(name, rule string, link int, change func([]Link), after ...func([]Link)) {
		links := chain3()
		change(links)
		var do func([]Link)
		if len(after) > 0 {
			do = after[0]
		}
		add(name, rule, link, seal(links, do), now, use)
	}
	asked := func(name, rule string, link int, ask func(*Use)) {
		u := use
		ask(&u)
		add(name, rule, link, seal(chain3(), nil), now, u)
	}
	good := seal(chain3(), nil)
	add("three links, a function", "ok", 0, good, now, use)
	asked("three links, a message", "ok", 0, func(u *Use) { u.Function = "" })
	add("one link", "ok", 0, seal(chain3()[:1], nil), now, Use{Presenter: testAgent("bob"), DNA: testDNA, To: testAgent("mallory"), Function: "anything", Payload: 1000})
	add("begins in 30 s", "ok", 0, good, testNow.Add(-8*time.Hour-DelegationSkew), use)
	add("a microsecond before its end", "ok", 0, good, testNow.Add(7*time.Hour-time.Microsecond), use)
	change("no limits at all", "ok", 0, func(l []Link) {
		for i := range l {
			l[i] = Link{From: l[i].From, To: l[i].To, Expires: l[i].Expires, Depth: 2 - i, All: true}
		}
	})

	bytesOf := func(f func(Proof) Proof) Proof { return f(slices.Clone(good)) }
	add("empty", RuleFormat, -1, nil, now, use)
	add("no link", RuleFormat, -1, Proof{1, 0}, now, use)
	add("nine links", RuleFormat, -1, bytesOf(func(p Proof) Proof { p[1] = 9; return p }), now, use)
	add("version of the proof", RuleFormat, -1, bytesOf(func(p Proof) Proof { p[0] = 2; return p }), now, use)
	add("version of a link", RuleFormat, 0, bytesOf(func(p Proof) Proof { p[2] = 2; return p }), now, use)
	add("a byte too many", RuleFormat, -1, append(slices.Clone(good), 0), now, use)
	add("a byte too few", RuleFormat, 2, good[:len(good)-1], now, use)
	change("functions out of order", RuleFormat, 1, func(l []Link) { slices.Reverse(l[1].Functions) })
	change("a function twice", RuleFormat, 1, func(l []Link) { l[1].Functions = []string{"bid", "bid"} })
	change("a function's name", RuleFormat, 1, func(l []Link) { l[1].Functions = []string{"Bid"} })
	change("agents out of order", RuleFormat, 1, func(l []Link) { slices.Reverse(l[1].Agents) })
	change("an agent twice", RuleFormat, 1, func(l []Link) { l[1].Agents[0] = l[1].Agents[1] })
	change("all functions and some", RuleFormat, 0, func(l []Link) { l[0].Functions = []string{"bid"} })
	change("nothing allowed", RuleFormat, 2, func(l []Link) { l[2].Functions, l[2].Messages = nil, false })
	change("no end", RuleFormat, 0, func(l []Link) { l[0].Expires = time.Time{} })
	change("ends before it begins", RuleFormat, 0, func(l []Link) { l[0].Expires = l[0].NotBefore })
	change("half a rate", RuleFormat, 0, func(l []Link) { l[0].Rate.Per = 0 })
	change("depth 8", RuleFormat, 0, func(l []Link) { l[0].Depth = 8 })

	change("a key of small order", RuleKey, 0, func(l []Link) { l[0].From = smallOrder[3] })
	change("a key with its sign bit", RuleKey, 1, func(l []Link) { l[1].To[31] |= 0x80 })
	change("a key that is not canonical", RuleKey, 2, func(l []Link) {
		l[2].To = AgentID(append([]byte{0xee}, append(bytes.Repeat([]byte{0xff}, 30), 0x7f)...))
	})
	change("a signature's bit", RuleSignature, 1, func([]Link) {}, func(l []Link) { l[1].Signature[3] ^= 1 })
	change("signed by another", RuleSignature, 2, func([]Link) {}, func(l []Link) {
		copy(l[2].Signature[:], ed25519.Sign(testKey("mallory"), LinkSigningBytes(l[2].ID())))
	})
	change("changed after it was signed", RuleSignature, 0, func([]Link) {}, func(l []Link) { l[0].Depth = 4 })
	add("begins in more than 30 s", RuleNotYet, 1, good, testNow.Add(-8*time.Hour-DelegationSkew-time.Microsecond), use)
	add("at its end", RuleExpired, 2, good, testNow.Add(7*time.Hour), use)
	change("expired and wider: freshness goes first", RuleExpired, 2, func(l []Link) { l[2].Expires, l[1].All, l[1].Functions = testNow, true, nil })
	change("expired and forged: the signature goes first", RuleSignature, 2, func(l []Link) { l[1].Expires = testNow }, func(l []Link) { l[2].Signature[0] ^= 1 })

	change("the first under another", RuleParent, 0, func(l []Link) { l[0].Parent = Hash{1} })
	change("under another link", RuleParent, 1, func(l []Link) { l[1].Parent = Hash{1} })
	change("given by one who does not have it", RuleHolder, 2, func(l []Link) { l[2].From = testAgent("mallory") })
	change("another DNA within", RuleDNA, 1, func(l []Link) { l[1].DNA = DNAHash{1} })
	change("back to the principal", RuleTwice, 2, func(l []Link) { l[2].To = l[0].From })
	change("to itself", RuleTwice, 0, func(l []Link) { l[0].To = l[0].From })
	change("may not be handed on", RuleDepth, 2, func(l []Link) { l[1].Depth = 0 })
	change("as deep as the one before", RuleDepth, 1, func(l []Link) { l[1].Depth = 3 })
	change("begins earlier", RuleTime, 1, func(l []Link) { l[1].NotBefore = l[0].NotBefore.Add(-1000) })
	change("begins at any time", RuleTime, 1, func(l []Link) { l[1].NotBefore = time.Time{} })
	change("ends later", RuleTime, 1, func(l []Link) { l[1].Expires = l[0].Expires.Add(1000) })
	change("one more function", RuleFunctions, 2, func(l []Link) { l[2].Functions = []string{"bid", "sell"} })
	change("all functions", RuleFunctions, 2, func(l []Link) { l[2].Functions, l[2].All = nil, true })
	change("messages too", RuleMessages, 2, func(l []Link) { l[1].Messages = false })
	change("one more agent", RuleAgents, 2, func(l []Link) { l[2].Agents = []AgentID{testAgent("mallory")} })
	change("any agent", RuleAgents, 2, func(l []Link) { l[2].Agents = nil })
	change("more uses", RuleUses, 1, func(l []Link) { l[1].Uses = 101 })
	change("any number of uses", RuleUses, 1, func(l []Link) { l[1].Uses = 0 })
	change("more within the time", RuleRate, 1, func(l []Link) { l[1].Rate.N = 11 })
	change("as many in less time", RuleRate, 1, func(l []Link) { l[1].Rate.Per = time.Second })
	change("at any rate", RuleRate, 1, func(l []Link) { l[1].Rate = Rate{} })
	change("larger payloads", RulePayload, 2, func(l []Link) { l[2].MaxPayload = 501 })
	change("payloads of any size", RulePayload, 2, func(l []Link) { l[2].MaxPayload = 0 })

	asked("stolen", RulePresenter, 2, func(u *Use) { u.Presenter = testAgent("mallory") })
	asked("in another DNA", RuleDNA, 2, func(u *Use) { u.DNA = DNAHash{1} })
	asked("of another agent", RuleToAgent, 2, func(u *Use) { u.To = testAgent("frank") })
	asked("another function", RuleFunction, 2, func(u *Use) { u.Function = "look" })
	asked("too large a payload", RuleTooLarge, 2, func(u *Use) { u.Payload = 501 })
	noMessages := chain3()
	noMessages[2].Messages = false
	u := use
	u.Function = ""
	add("a message where functions are allowed", RuleMessage, 2, seal(noMessages, nil), now, u)
	return out
}

// TestProofs: good chains and, for each rule, chains that break it. Other
// implementations can be held against the file.
func TestProofs(t *testing.T) {
	t.Parallel()
	made, err := json.MarshalIndent(proofCases(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/delegations.json"
	made = append(made, '\n')
	if *update {
		if err := os.WriteFile(path, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, made) {
		t.Error("the file is not what this package encodes; see -update")
	}
	var cases []proofCase
	if err := json.Unmarshal(file, &cases); err != nil {
		t.Fatal(err)
	}
	id := func(s string) [32]byte { return [32]byte(unhex(t, s)) }
	rules := map[string]bool{}
	for _, c := range cases {
		b, err := Proof(unhex(t, c.Proof)).Verify(time.UnixMicro(c.Now), Use{Presenter: id(c.Presenter), DNA: id(c.DNA), To: id(c.To), Function: c.Function, Payload: c.Payload})
		rules[c.Verdict] = true
		if c.Verdict == "ok" {
			if err != nil || b.Principal() != AgentID(id(c.Principal)) {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			for i := range b.Links {
				if b.Links[i].ID() != id(c.IDs[i]) {
					t.Errorf("%s: id %d is %x", c.Name, i, b.Links[i].ID())
				}
			}
			continue
		}
		broken, ok := errors.AsType[*ProofError](err)
		if !ok || broken.Rule != c.Verdict || broken.Link != c.Link {
			t.Errorf("%s: got %v (%+v), want rule %s of link %d", c.Name, err, broken, c.Verdict, c.Link)
		}
	}
	for _, r := range []string{RuleFormat, RuleKey, RuleSignature, RuleNotYet, RuleExpired, RuleDNA, RuleParent, RuleHolder, RuleTwice, RuleDepth, RuleTime,
		RuleFunctions, RuleMessages, RuleAgents, RuleUses, RuleRate, RulePayload, RulePresenter, RuleToAgent, RuleFunction, RuleMessage, RuleTooLarge} {
		if !rules[r] {
			t.Errorf("no vector breaks rule %s", r)
		}
	}
}

// TestSignDelegation: what is made holds, what is left open is taken over, and
// what is wider is not made.
func TestSignDelegation(t *testing.T) {
	t.Parallel()
	first := Delegation{To: testAgent("bob"), Functions: []string{"look", "bid"}, Messages: true, Agents: []AgentID{testAgent("frank"), testAgent("erin")},
		NotBefore: testNow.Add(-time.Hour + 1), Expires: testNow.Add(time.Hour + 999), Uses: 3, Rate: Rate{1, time.Second + 1}, MaxPayload: 10, Depth: 1}
	p, err := SignDelegation(&first, testDNA, testKey("alice"), [16]byte{1}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	use := Use{Presenter: testAgent("bob"), DNA: testDNA, To: testAgent("erin"), Function: "look", Payload: 10}
	b, err := p.Verify(testNow, use)
	if err != nil {
		t.Fatal(err)
	}
	if l := b.Links[0]; !l.NotBefore.Equal(testNow.Add(-time.Hour+1000)) || !l.Expires.Equal(testNow.Add(time.Hour)) || l.Rate.Per != time.Second+time.Microsecond {
		t.Errorf("rounded to %s, %s, %s", l.NotBefore, l.Expires, l.Rate.Per)
	}
	second := Delegation{To: testAgent("carol"), Functions: []string{"look"}, Expires: testNow.Add(time.Minute), Under: p}
	q, err := SignDelegation(&second, testDNA, testKey("bob"), [16]byte{2}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	use.Presenter = testAgent("carol")
	if b, err = q.Verify(testNow, use); err != nil {
		t.Fatal(err)
	}
	if l, m := b.Links[0], b.Links[1]; !slices.Equal(l.Agents, m.Agents) || m.Uses != 3 || m.Rate != l.Rate || m.MaxPayload != 10 || !m.NotBefore.Equal(l.NotBefore) {
		t.Errorf("%+v is taken over as %+v", l, m)
	}
	if id, err := q.ID(); err != nil || id != b.Links[1].ID() {
		t.Errorf("%s, %v", id, err)
	}
	for rule, c := range map[string]struct {
		from   string
		change func(*Delegation)
	}{
		RuleHolder:    {"mallory", func(*Delegation) {}},
		RuleDepth:     {"bob", func(d *Delegation) { d.Depth = 1 }},
		RuleTime:      {"bob", func(d *Delegation) { d.Expires = testNow.Add(2 * time.Hour) }},
		RuleFunctions: {"bob", func(d *Delegation) { d.Functions, d.All = nil, true }},
		RuleUses:      {"bob", func(d *Delegation) { d.Uses = 4 }},
		RuleExpired:   {"bob", func(d *Delegation) { d.Expires = testNow }},
	} {
		d := second
		c.change(&d)
		_, err := SignDelegation(&d, testDNA, testKey(c.from), [16]byte{3}, testNow)
		if broken, ok := errors.AsType[*ProofError](err); !ok || broken.Rule != rule || broken.Link != 1 {
			t.Errorf("%s: %v", rule, err)
		}
	}
	later := second
	later.NotBefore, later.Expires = testNow.Add(30*time.Minute), testNow.Add(time.Hour)
	if _, err := SignDelegation(&later, testDNA, testKey("bob"), [16]byte{4}, testNow); err != nil {
		t.Errorf("one for later: %v", err)
	}
	many := first
	for i := range MaxGrantAgents {
		many.Agents = append(many.Agents[:i:i], AgentID{1, byte(i)})
	}
	p, err = SignDelegation(&many, testDNA, testKey("alice"), [16]byte{5}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	under := second
	under.Under = p
	if _, err := SignDelegation(&under, testDNA, testKey("bob"), [16]byte{6}, testNow); err == nil {
		t.Errorf("two links with %d agents fit into %d bytes", MaxGrantAgents, MaxProof)
	}
}

func FuzzProof(f *testing.F) {
	for _, c := range proofCases(f) {
		f.Add(unhex(f, c.Proof))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		links, err := Proof(b).Links()
		if err != nil {
			return
		}
		if !bytes.Equal(appendProof(links), b) {
			t.Error("not the one encoding")
		}
		if _, err := Proof(b).Verify(testNow, Use{}); err == nil {
			t.Error("a proof for nobody")
		}
	})
}

func BenchmarkProof(b *testing.B) {
	for _, n := range []int{1, 5, 8} {
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
		var p Proof
		for i := range n {
			d := Delegation{To: testAgent(names[i+1]), Functions: []string{"bid"}, Expires: testNow.Add(time.Hour), Depth: n - 1 - i, Under: p}
			var err error
			if p, err = SignDelegation(&d, testDNA, testKey(names[i]), [16]byte{byte(i)}, testNow); err != nil {
				b.Fatal(err)
			}
		}
		u := Use{Presenter: testAgent(names[n]), DNA: testDNA, To: testAgent("z"), Function: "bid"}
		b.Run(string(rune('0'+n)), func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(len(p)), "proof-bytes")
			for b.Loop() {
				if _, err := p.Verify(testNow, u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
