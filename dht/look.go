package dht

import (
	"slices"
	"time"
)

// TableInfo is the routing table for people: what DHT.Table returns.
type TableInfo struct {
	Self     ID
	Buckets  []BucketInfo  // those that are not empty
	Contacts []ContactInfo // by bucket, the longest known first
}

// BucketInfo is a bucket of the routing table.
type BucketInfo struct {
	Bucket       int // length of the prefix shared with this node's id
	Contacts     int
	Replacements int       // named by others, not yet checked
	Touched      time.Time // last lookup in its range; zero: none
}

// ContactInfo is a contact of the routing table.
type ContactInfo struct {
	Contact
	Bucket  int
	Sibling bool          // one of the 32 nearest
	Since   time.Time     // in the table
	RTT     time.Duration // moving average
	Fails   int           // calls in a row that it did not answer
}

// Table returns the routing table of this moment.
func (d *DHT) Table() TableInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.table.info()
}

func (t *table) info() TableInfo {
	info := TableInfo{Self: t.self}
	siblings := t.closest(t.self, t.near, nil)
	for i := range t.buckets {
		b := &t.buckets[i]
		if len(b.entries)+len(b.replacements) == 0 {
			continue
		}
		info.Buckets = append(info.Buckets, BucketInfo{i, len(b.entries), len(b.replacements), b.touched})
		for j := range b.entries {
			e := &b.entries[j]
			info.Contacts = append(info.Contacts, ContactInfo{Contact: e.contact(), Bucket: i, Sibling: slices.Contains(siblings, e),
				Since: t.time(e.since), RTT: e.roundTrip(), Fails: int(e.fails)})
		}
	}
	return info
}
