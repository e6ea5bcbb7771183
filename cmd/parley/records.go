package main

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/parley-p2p/parley/sdk"
)

// recordJSON is a record as --json prints it.
type recordJSON struct {
	Hash       sdk.Hash        `json:"hash"`
	DNA        sdk.DNAHash     `json:"dna"`
	Author     sdk.AgentID     `json:"author"`
	Seq        uint64          `json:"seq"`
	Prev       sdk.Hash        `json:"prev,omitzero"`
	Time       time.Time       `json:"time"`
	Kind       string          `json:"kind"`
	Type       string          `json:"type"`
	Visibility string          `json:"visibility"`
	EntryHash  sdk.Hash        `json:"entry_hash"`
	Cause      string          `json:"cause,omitempty"`
	Message    sdk.MessageID   `json:"message,omitzero"`
	From       sdk.AgentID     `json:"from,omitzero"`
	Signature  []byte          `json:"signature"`
	Content    []byte          `json:"content"`         // null where withheld
	Value      json.RawMessage `json:"value,omitempty"` // the content, where it has a JSON form
}

func recordsJSON(records []sdk.Record) []recordJSON {
	out := make([]recordJSON, 0, len(records))
	for i := range records {
		r := &records[i]
		h := &r.Header
		j := recordJSON{Hash: r.Hash(), DNA: h.DNA, Author: h.Author, Seq: h.Seq, Prev: h.Prev, Time: h.Time, Kind: kindName(h.Kind),
			Type: h.EntryType, Visibility: visibilityName(h.Visibility), EntryHash: h.Entry, Cause: causeName(h.Cause.Kind),
			Message: h.Cause.Message, From: h.Cause.From, Signature: r.Signature[:], Content: r.Content}
		if own := ownJSON(h.EntryType, r.Content); own != nil {
			j.Value = own
		} else if v, err := sdk.PayloadToJSON(r.Content); err == nil && r.Content != nil {
			j.Value = v
		}
		out = append(out, j)
	}
	return out
}

func recordsText(records []sdk.Record) string {
	t := newTable("SEQ", "TIME", "TYPE", "VISIBILITY", "CAUSE", "ENTRY")
	for i := range records {
		h := &records[i].Header
		cause := orDash(causeName(h.Cause.Kind))
		if h.Kind == sdk.KindEntry && h.Cause.From != h.Author {
			cause += " from " + h.Cause.From.Short() + "…"
		}
		t.row(fmt.Sprint(h.Seq), clock(h.Time), h.EntryType, visibilityName(h.Visibility), cause, recordText(h.EntryType, records[i].Content))
	}
	return t.String()
}

func recordText(entryType string, content []byte) string {
	if text, _, ok := ownEntry(entryType, content); ok {
		return text
	}
	return contentText(content)
}

const shownContent = 200 // bytes of an entry in a table

func contentText(content []byte) string {
	if content == nil {
		return "(withheld)"
	}
	v, err := sdk.PayloadToJSON(content)
	if err != nil {
		return fmt.Sprintf("(%d bytes)", len(content))
	}
	if len(v) <= shownContent {
		return cleanJSON(v)
	}
	n := shownContent
	for n > 0 && !utf8.RuneStart(v[n]) {
		n--
	}
	return cleanJSON(v[:n]) + "…"
}

func kindName(k sdk.RecordKind) string {
	if k == sdk.KindGenesis {
		return "genesis"
	}
	return "entry"
}

func visibilityName(v sdk.Visibility) string {
	if v == sdk.Public {
		return "public"
	}
	return "private"
}

func causeName(k sdk.CallKind) string {
	switch k {
	case sdk.CallFunction:
		return "function"
	case sdk.CallReceive:
		return "receive"
	case sdk.CallInit:
		return "init"
	case sdk.CallNotified:
		return "notified"
	case sdk.CallOperator:
		return "operator"
	case sdk.CallPostCommit:
		return "post_commit"
	}
	return ""
}
