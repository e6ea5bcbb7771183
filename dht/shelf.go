package dht

import (
	"iter"
	"slices"
)

// shelf is the records of a store in the order of their positions. A search reads one line of memory
// or two, and none has more than a pointer and 8 bytes beside the record: a simulation has 100,000 stores.
type shelf struct {
	tops []uint64 // ID.top of each
	held []*held
}

func (s *shelf) len() int { return len(s.held) }

// place returns the place of id, or where it would be.
func (s *shelf) place(id ID) (i int, found bool) {
	i, found = slices.BinarySearch(s.tops, id.top())
	for ; found && i < len(s.tops) && s.tops[i] == id.top(); i++ {
		if s.held[i].rec.position() == id {
			return i, true
		}
	}
	return i, false
}

// at returns what is kept at id, nil if nothing is.
func (s *shelf) at(id ID) *held {
	if i, found := s.place(id); found {
		return s.held[i]
	}
	return nil
}

// first returns what is kept at the first position that begins with top, nil if nothing is.
func (s *shelf) first(top uint64) *held {
	if i, found := slices.BinarySearch(s.tops, top); found {
		return s.held[i]
	}
	return nil
}

// add keeps h at id, where nothing is kept.
func (s *shelf) add(id ID, h *held) {
	i, _ := s.place(id)
	s.tops, s.held = slices.Insert(s.tops, i, id.top()), slices.Insert(s.held, i, h)
}

func (s *shelf) remove(id ID) {
	if i, found := s.place(id); found {
		s.tops, s.held = slices.Delete(s.tops, i, i+1), slices.Delete(s.held, i, i+1)
	}
}

// ids are the positions.
func (s *shelf) ids() iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for _, h := range s.held {
			if !yield(h.rec.position()) {
				return
			}
		}
	}
}
