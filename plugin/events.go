package plugin

import "time"

// EventKind says what happened to a handler.
type EventKind string

const (
	EventUp         EventKind = "up"          // a process takes calls where none did
	EventSwapped    EventKind = "swapped"     // another process takes the calls
	EventConfirmed  EventKind = "confirmed"   // a new binary has stood its probation
	EventRejected   EventKind = "rejected"    // a binary was not taken
	EventRolledBack EventKind = "rolled back" // a binary died in its probation
	EventDied       EventKind = "died"        // the process ended; it is started again
	EventFailed     EventKind = "failed"      // it died too often and stays down
	EventRemoved    EventKind = "removed"     // the file is gone
)

// Event is something that happened to a handler.
type Event struct {
	Time   time.Time
	File   string
	DNA    string // empty if it never told
	Kind   EventKind
	SHA256 string // of the binary that it is about; may be empty
	Text   string
}

// event tells of s's handler.
func (s *supervisor) event(k EventKind, sum, text string) {
	s.cfg.Event(Event{Time: time.Now(), File: s.h.File(), DNA: s.h.Description().Name, Kind: k, SHA256: sum, Text: text})
}
