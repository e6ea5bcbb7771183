package dht

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// A snapshot is what a node would otherwise have to find out again. Integers
// big-endian:
//
//	magic       8   "parleyDT"
//	version     1   2
//	own seq     8   highest used
//	k           1   estimates of the number of nodes, at most sizeSamples; not in version 1
//	k times:        nodes 8, the latest last
//	n           2   contacts, at most maxSnapContacts
//	n times:        length 2, record (as in record.go)
//	m           4   floors, at most 2^20
//	m times:        id 32, seq 8, until 8 (Unix time, ms)
//	checksum   32   SHA-256 of everything before
const (
	snapMagic       = "parleyDT"
	snapVersion     = 2
	maxSnapContacts = 1024
	maxSnapFloors   = 1 << 20
	floorSize       = 32 + 8 + 8
	restoreSeeds    = 30 // contacts of the last run that are asked
)

type snapshot struct {
	seq      uint64
	sizes    []uint64
	contacts []*Record
	floors   map[ID]floor
}

func (s *snapshot) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint64(append(append(b, snapMagic...), snapVersion), s.seq)
	b = append(b, byte(len(s.sizes)))
	for _, n := range s.sizes {
		b = be.AppendUint64(b, n)
	}
	b = be.AppendUint16(b, uint16(len(s.contacts)))
	for _, r := range s.contacts {
		b = append(be.AppendUint16(b, uint16(len(r.raw))), r.raw...)
	}
	b = be.AppendUint32(b, uint32(len(s.floors)))
	for id, f := range s.floors {
		b = be.AppendUint64(append(b, id[:]...), f.seq)
		b = be.AppendUint64(b, uint64(f.until))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func snapErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrSnapshot, fmt.Errorf(format, args...))
}

func parseSnapshot(b []byte) (*snapshot, error) {
	const head = len(snapMagic) + 1
	n := len(b) - sha256.Size
	if n < head+8+2+4 || string(b[:len(snapMagic)]) != snapMagic {
		return nil, snapErrorf("not one, or cut short")
	}
	version := b[head-1]
	if version == 0 || version > snapVersion {
		return nil, snapErrorf("version %d, those up to %d are known", version, snapVersion)
	}
	if sum := sha256.Sum256(b[:n]); string(sum[:]) != string(b[n:]) {
		return nil, snapErrorf("damaged: wrong checksum")
	}
	be := binary.BigEndian
	s := &snapshot{seq: be.Uint64(b[head:]), floors: map[ID]floor{}}
	b = b[head+8 : n]
	if version > 1 {
		k := int(b[0])
		if b = b[1:]; k > sizeSamples || len(b) < 8*k {
			return nil, snapErrorf("%d estimates in %d bytes, at most %d", k, len(b), sizeSamples)
		}
		for ; k > 0; k-- {
			s.sizes, b = append(s.sizes, be.Uint64(b)), b[8:]
		}
	}
	if len(b) < 2 {
		return nil, snapErrorf("cut short")
	}
	contacts := int(be.Uint16(b))
	if b = b[2:]; contacts > maxSnapContacts {
		return nil, snapErrorf("%d contacts, at most %d", contacts, maxSnapContacts)
	}
	for range contacts {
		if len(b) < 2 || len(b)-2 < int(be.Uint16(b)) {
			return nil, snapErrorf("cut short in a contact")
		}
		l := int(be.Uint16(b))
		r, err := ParseRecord(b[2 : 2+l])
		if err != nil {
			return nil, snapErrorf("%w", err)
		}
		s.contacts, b = append(s.contacts, r), b[2+l:]
	}
	if len(b) < 4 {
		return nil, snapErrorf("cut short")
	}
	floors := int(be.Uint32(b))
	if b = b[4:]; floors > maxSnapFloors || len(b) != floors*floorSize {
		return nil, snapErrorf("%d bytes for %d floors", len(b), floors)
	}
	for ; len(b) > 0; b = b[floorSize:] {
		ms := be.Uint64(b[40:])
		if ms >= 1<<48 {
			return nil, snapErrorf("time %d ms", ms)
		}
		s.floors[ID(b[:32])] = floor{be.Uint64(b[32:]), millis(ms)}
	}
	return s, nil
}

// Snapshot returns the contacts, sequence floors and own sequence number, for
// Restore after a restart. Losing it costs a slower start and nothing else.
func (d *DHT) Snapshot() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.snapshot()
}

func (c *core) snapshot() []byte {
	s := c.rest()
	return s.append(nil)
}

// rest is what of c outlives its run. It shares the floors with it.
func (c *core) rest() snapshot {
	s := snapshot{seq: c.own.seq, sizes: c.sizes.known(), floors: c.store.floors, contacts: make([]*Record, 0, min(c.table.n, maxSnapContacts))}
	c.table.each(func(e *entry) {
		if r := e.record(); r != nil && len(s.contacts) < maxSnapContacts {
			s.contacts = append(s.contacts, r)
		}
	})
	return s
}

// Restore takes over what Snapshot returned in an earlier run of this agent's
// node. It must be called before Run. The contacts count as unverified until
// they answer. No bytes are no snapshot and no error; for damaged ones the error
// wraps ErrSnapshot and nothing is taken over.
func (d *DHT) Restore(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.core.restore(d.cfg.Now(), b); err != nil {
		return fmt.Errorf("dht: restore: %w", err)
	}
	return nil
}

func (c *core) restore(now time.Time, b []byte) error {
	s, err := parseSnapshot(b)
	if err == nil {
		c.resume(now, s)
	}
	return err
}

func (c *core) resume(now time.Time, s *snapshot) {
	// A seq from a clock far ahead would make this agent's records unbeatable
	// for itself only: seqs carry no meaning but their order.
	c.own.seq = max(c.own.seq, s.seq)
	if c.sizes.restore(s.sizes); c.sizes.restored > 0 {
		c.sched.resample = now.Add(time.Duration(c.rnd.Int64N(int64(sampleEvery))))
	}
	for id, f := range s.floors {
		if toMillis(now) < f.until && len(c.store.floors) < c.cfg.MaxFloors {
			c.store.raise(id, f)
		}
	}
	c.rnd.Shuffle(len(s.contacts), func(i, j int) { s.contacts[i], s.contacts[j] = s.contacts[j], s.contacts[i] })
	for _, r := range s.contacts[:min(restoreSeeds, len(s.contacts))] {
		if r.Key != c.self && c.verify(r) == nil && c.sched.former(r.Key) < 0 {
			c.sched.restored = append(c.sched.restored, former{who{at: r}, r.Key.hash()})
		}
	}
}
