package sim

// event is something that happens to one node at one time. Events are ordered
// by (at, dst, src, seq), which no two share: the order does not depend on the
// partition.
type event struct {
	at   int64 // ns since the start
	msg  *message
	dst  int32
	src  int32  // who caused it
	seq  uint32 // of the events that src caused
	kind eventKind
	life uint8 // of src's connections, where one has ended
}

func (e *event) before(o *event) bool {
	if e.at != o.at {
		return e.at < o.at
	}
	if e.dst != o.dst {
		return e.dst < o.dst
	}
	if e.src != o.src {
		return e.src < o.src
	}
	return e.seq < o.seq
}

// eventHeap is a heap with four children per node, the earliest event first.
type eventHeap []event

func (h *eventHeap) push(e event) {
	*h = append(*h, e)
	s := *h
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&s[up]) {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = e
}

func (h *eventHeap) pop() event {
	s := *h
	first, last := s[0], s[len(s)-1]
	n := len(s) - 1
	s[n] = event{}
	*h = s[:n]
	if n == 0 {
		return first
	}
	i := 0
	for {
		least := 4*i + 1
		if least >= n {
			break
		}
		for c := least + 1; c < min(4*i+5, n); c++ {
			if s[c].before(&s[least]) {
				least = c
			}
		}
		if !s[least].before(&last) {
			break
		}
		s[i] = s[least]
		i = least
	}
	s[i] = last
	return first
}
