// Package chain keeps an agent's source chain in one DNA: the hash-linked,
// signed, append-only log of what its calls committed, and the outcomes of the
// receives that did. One chain is one bbolt file, mode 0600.
//
// Start with Open, Append and Query. One goroutine at a time commits: it takes
// every batch that waits, links and signs their records, and makes them durable
// in one write to the log; a batch is appended whole or not at all, and Append
// returns when it is on disk. That goroutine is the chain's committer, or an
// Append's own where nobody is ahead of it. The keeper takes what is in the log
// over into the chain file, many commits in one transaction, and reads see both.
//
//	Append ─┐            ┌─ plan: link, hash ─ sign (all cores) ─ log: write, sync ─┐
//	Append ─┼─ queue ─ committer                                                    ├─ answers
//	Append ─┘            └──────────────────── one frame ───────────────────────────┘
//	                                               keeper: log ── chain file
//
// # The file
//
// Keys and values are big-endian; the values' layout is in codec.go and, for
// other languages, in docs/chain.md.
//
//	bucket     key                                  value
//	┌─────────┬────────────────────────────────────┬──────────────────────────────────┐
//	│ meta    │ "format"                           │ 1 byte: 1                        │
//	│         │ "wal", while there is a log        │ id of the log 16                 │
//	│         │ "stored", once there was one       │ number of its last frame that is │
//	│         │                                    │ in this file 8                   │
//	│         │ "posted", once there was a         │ sequence of the last record that │
//	│         │ post_commit                        │ it confirmed 8, CRC-32C          │
//	├─────────┼────────────────────────────────────┼──────────────────────────────────┤
//	│ records │ sequence 8                         │ format, header, signature, entry,│
//	│         │                                    │ CRC-32C of the key and the value │
//	├─────────┼────────────────────────────────────┼──────────────────────────────────┤
//	│ types   │ type length 1 │ type │ sequence 8  │ empty                            │
//	├─────────┼────────────────────────────────────┼──────────────────────────────────┤
//	│ replies │ order 8: 0, 1, 2, … as appended    │ from, message id, time, reply,   │
//	│         │                                    │ CRC-32C of the key and the value │
//	└─────────┴────────────────────────────────────┴──────────────────────────────────┘
//
// Beside it, under the same name with ".wal" behind it, is the write-ahead log
// while the chain is open: wal.go. A chain that was closed is one file.
//
// # What is checked when
//
// Open reads the file with plain reads before bbolt maps it: every page that
// can be reached, every record's checksum, place, link and hashes, the type
// index and the kept replies; then the log. Signatures are covered by the checksum against
// accident; Verify checks them against intent.
//
// # What holds
//
//	seq(i+1) = seq(i) + 1,  prev(i+1) = hash(i),  record 0 is the genesis record
//	Append returned nil  ⇒  its records and its reply survive a crash
//	a read returns a record or a reply  ⇒  it survives a crash
//	a receive's (sender, message id) is appended at most once while its reply is
//	kept, and it is kept for at least LongestDeadline
package chain
