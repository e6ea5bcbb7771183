package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
)

// server is what the node needs of a handler once it is set up.
type server interface {
	Serve(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error)
}

// app is one DNA that runs on this node.
type app struct {
	name    string
	dna     sdk.DNA
	hash    sdk.DNAHash
	desc    sdk.Description // when it was taken; see described
	handler server
	chain   *chain.Chain
	log     *slog.Logger
	header  []byte                 // of its messages when they are first sent, encoded once; see message.go
	poster  atomic.Pointer[poster] // nil without a post_commit
	prepare chan struct{}          // holds one while a process of it is prepared
	grants  grants

	mu       sync.Mutex // guards what follows
	stopping bool
	running  int
	idle     chan struct{} // closed when stopping and nothing runs
}

// enter counts a call in; it fails once the app is being removed.
func (a *app) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return false
	}
	a.running++
	return true
}

func (a *app) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	if a.stopping && a.running == 0 {
		close(a.idle)
	}
}

// stop lets no further call in and waits for those that run, and for the poster,
// then closes the chain. The calls end by their own deadlines, or because their handler stops.
func (a *app) stop() error {
	a.mu.Lock()
	if !a.stopping {
		a.stopping = true
		if a.running == 0 {
			close(a.idle)
		}
	}
	a.mu.Unlock()
	if p := a.poster.Load(); p != nil {
		p.stop()
	}
	<-a.idle
	return a.chain.Close()
}

// described is what the handler says of itself now: a binary that has taken the
// place of another one may do more.
func (a *app) described() sdk.Description {
	if h, ok := a.handler.(interface{ Description() sdk.Description }); ok {
		return h.Description()
	}
	return a.desc
}

// grown tells the poster, if there is one, that there are more durable records.
func (a *app) grown() {
	if p := a.poster.Load(); p != nil {
		p.grown()
	}
}

func (a *app) hasFunction(name string) bool { return slices.Contains(a.described().Functions, name) }

func (a *app) functionList() string {
	functions := a.described().Functions
	if len(functions) == 0 {
		return "none"
	}
	return strings.Join(functions, ", ")
}

// apps are the DNAs that run here, and those that can't.
type apps struct {
	mu       sync.RWMutex // guards what follows
	byName   map[string]*app
	byHash   map[sdk.DNAHash]*app
	byHeader map[string]*app          // by its messages' header
	reserved map[string]*app          // by DNA name: being started; nil until there is an app
	inits    map[sdk.DNAHash]*app     // of those: init runs
	damaged  map[string]*DamagedChain // by DNA name: refused, because the chain is not what was written
}

// DamagedChain is a DNA that does not run because its source chain is damaged.
type DamagedChain struct {
	DNA  string
	Path string
	Seq  uint64 // of the first wrong record
	Err  error
}

func newApps() *apps {
	return &apps{byName: map[string]*app{}, byHash: map[sdk.DNAHash]*app{}, byHeader: map[string]*app{}, reserved: map[string]*app{}, inits: map[sdk.DNAHash]*app{}, damaged: map[string]*DamagedChain{}}
}

// reserve makes sure that one handler of a DNA starts. add or release ends it.
func (s *apps) reserve(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, starts := s.reserved[name]; starts || s.byName[name] != nil {
		return fmt.Errorf("DNA %s: %w: remove one of the two", name, plugin.ErrTaken)
	}
	s.reserved[name] = nil
	return nil
}

// starting tells of a reserved app, which has its handler now.
func (s *apps) starting(a *app) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved[a.name] = a
}

// runningBy finds the app of a handler that may be called.
func (s *apps) runningBy(h server) *app {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.byName {
		if a.handler == h {
			return a
		}
	}
	return nil
}

// startingBy finds the reserved app of a handler.
func (s *apps) startingBy(h server) *app {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.reserved {
		if a != nil && a.handler == h {
			return a
		}
	}
	return nil
}

// initializing tells that a reserved app's init runs, or has ended.
func (s *apps) initializing(a *app, runs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if runs {
		s.inits[a.hash] = a
	} else {
		delete(s.inits, a.hash)
	}
}

func (s *apps) initializes(a *app) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.inits[a.hash] == a
}

func (s *apps) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, name)
}

// add lets a reserved app be called.
func (s *apps) add(a *app) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, a.name)
	s.byName[a.name], s.byHash[a.hash] = a, a
	delete(s.damaged, a.name) // it was, and has been put back
	s.byHeader[string(a.header)] = a
}

func (s *apps) remove(a *app) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName[a.name] != a {
		return
	}
	delete(s.byName, a.name)
	delete(s.byHash, a.hash)
	delete(s.byHeader, string(a.header))
}

func (s *apps) all() []*app {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*app, 0, len(s.byName))
	for _, a := range s.byName {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *app) int { return strings.Compare(a.name, b.name) })
	return list
}

// described tells that the handler of a DNA may say something else of itself than
// before: one that has a post_commit hears of what was committed until now.
func (s *apps) described(name string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.byName[name]; a != nil {
		a.grown()
	}
}

func (s *apps) damage(d *DamagedChain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged[d.DNA] = d
}

func (s *apps) allDamaged() []*DamagedChain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*DamagedChain, 0, len(s.damaged))
	for _, d := range s.damaged {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *DamagedChain) int { return strings.Compare(a.DNA, b.DNA) })
	return list
}

func (s *apps) damagedNamed(name string) *DamagedChain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.damaged[name]
}

// running is the app of the DNA of this hash, if it can be called; else nil.
func (s *apps) running(hash sdk.DNAHash) *app {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byHash[hash]
}

// runs tells whether the DNA of this hash can be called here, or is about to be.
func (s *apps) runs(hash sdk.DNAHash) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byHash[hash] != nil || s.inits[hash] != nil
}

// named finds an app by its DNA's name or the text form of its hash.
func (s *apps) named(dna string) (*app, *sdk.Error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.byName[dna]; a != nil {
		return a, nil
	}
	if hash, err := sdk.ParseDNAHash(dna); err == nil {
		if a := s.byHash[hash]; a != nil {
			return a, nil
		}
	}
	if a := s.reserved[dna]; a != nil && s.inits[a.hash] == a {
		return nil, errInitializing(a.name)
	}
	if d := s.damaged[dna]; d != nil {
		return nil, errMissing("DNA %s is refused: %v", dna, d.Err)
	}
	return nil, errMissing("DNA %s does not run on this node; run this node with a handler of it in its plugin directory", dna)
}

// missingLocked tells another agent why no handler of a DNA runs here: without
// this node's paths.
func (s *apps) missingLocked(name string) *sdk.Error {
	if s.damaged[name] != nil {
		return errMissing("DNA %s is refused, since its source chain is damaged; that agent's operator finds more in the node's status", name)
	}
	return errMissing("DNA %s does not run on this node; that agent's operator has to add a handler of it", name)
}

func errMissing(format string, args ...any) *sdk.Error {
	return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: fmt.Sprintf(format, args...)}
}

func errStopping(name string) *sdk.Error {
	return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: fmt.Sprintf("DNA %s is being stopped", name)}
}

// newApp reserves a described handler's DNA, opens its chain and makes it ready
// to be added.
func (n *Node) newApp(desc sdk.Description) (a *app, err error) {
	if err := sdk.CheckName(desc.Name); err != nil {
		return nil, fmt.Errorf("DNA name %q: %w", desc.Name, err)
	}
	if err := n.apps.reserve(desc.Name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.apps.release(desc.Name)
		}
	}()
	settings := n.cfg.DNAs[desc.Name]
	dna := sdk.DNA{Name: desc.Name, Integrity: desc.Integrity, NetworkSeed: settings.NetworkSeed, Properties: settings.Properties}
	a = &app{name: desc.Name, dna: dna, hash: dna.Hash(), desc: desc,
		log: n.cfg.Log.With("dna", desc.Name), idle: make(chan struct{}), prepare: make(chan struct{}, 1)}
	if a.header, err = usual.encode(a.hash, a.name, 0); err != nil {
		return nil, err
	}
	path := n.cfg.path("chains", fmt.Sprintf("%s-%x.db", a.name, a.hash[:6]))
	a.chain, err = chain.Open(n.cfg.Limits.ofChain(chain.Options{Path: path, DNA: dna, Key: n.id.key, ReplyAge: outcomesAge, Log: a.log}))
	var damaged *chain.DamagedError
	if errors.As(err, &damaged) {
		n.apps.damage(&DamagedChain{DNA: a.name, Path: path, Seq: damaged.Seq, Err: err})
	}
	if err != nil {
		return nil, fmt.Errorf("source chain of DNA %s: %w", a.name, err)
	}
	if err := n.loadGrants(a); err != nil {
		return nil, fmt.Errorf("source chain of DNA %s: %w", a.name, errors.Join(err, a.chain.Close()))
	}
	return a, nil
}
