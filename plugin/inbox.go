package plugin

import "sync"

// inbox holds what a supervisor is told until it has time to read it. What is
// told twice counts once, but for those who wait for an answer.
type inbox struct {
	news chan struct{} // holds one while there is something to read

	mu   sync.Mutex
	mail mail
}

// mail is what a supervisor is told.
type mail struct {
	changed  bool        // the file in the directory
	gone     bool        // the file, for good
	stuck    *generation // has calls that don't end
	again    bool        // another handler has made room: a rejected file may be taken now
	renamed  []string    // the file, which had these names, in order
	restarts []chan error
}

func newInbox() *inbox { return &inbox{news: make(chan struct{}, 1)} }

func (b *inbox) tell(f func(*mail)) {
	b.mu.Lock()
	f(&b.mail)
	b.mu.Unlock()
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *inbox) read() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = mail{}
	return m
}
