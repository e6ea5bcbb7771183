package agency

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Types of the entries by which a source chain holds grants. Both are private.
const (
	TypeGrant   = "parley.grant"   // a grant
	TypeRevoked = "parley.revoked" // the end of one
)

// Entry is a grant as it stands on its grantor's chain. The hash of its content
// is the grant's name.
type Entry struct {
	// Nonce tells two grants of the same content apart.
	Nonce [16]byte
	Grant sdk.Grant
	// Secret is SecretHash of a transferable grant's secret, else zero: who reads
	// the chain can't use the grant.
	Secret sdk.Hash
}

// SecretHash is SHA-256 over "parley-grant-secret-v1" and the secret.
func SecretHash(s sdk.Secret) sdk.Hash {
	return sha256.Sum256(append([]byte("parley-grant-secret-v1"), s[:]...))
}

// opens compares in constant time.
func (e *Entry) opens(secret sdk.Secret) bool {
	h := SecretHash(secret)
	return subtle.ConstantTimeCompare(h[:], e.Secret[:]) == 1
}

const entryVersion = 1

// The content of an entry is a payload (sdk.Marshal), so that an operator can
// read it on the chain. There is one encoding of each.
type wireGrant struct {
	Version    int           `codec:"v"`
	Nonce      []byte        `codec:"nonce"`
	Kind       string        `codec:"kind"`
	Agents     []sdk.AgentID `codec:"agents,omitempty"`
	Functions  []string      `codec:"functions,omitempty"`
	Expires    int64         `codec:"expires,omitempty"` // Unix time, µs
	Uses       int           `codec:"uses,omitempty"`
	RateN      int           `codec:"rate,omitempty"`
	RatePer    int64         `codec:"per,omitempty"` // ns
	MaxPayload int           `codec:"max_payload,omitempty"`
	Secret     []byte        `codec:"secret_hash,omitempty"`
}

type wireRevoked struct {
	Version int      `codec:"v"`
	Grant   sdk.Hash `codec:"grant"`
}

var kindNames = map[sdk.GrantKind]string{
	sdk.GrantAssigned: "assigned", sdk.GrantTransferable: "transferable", sdk.GrantUnrestricted: "unrestricted",
}

// KindName is a kind's name, in entries and for people.
func KindName(k sdk.GrantKind) string { return kindNames[k] }

// ParseKind reads KindName.
func ParseKind(s string) (sdk.GrantKind, error) {
	for k, name := range kindNames {
		if name == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("kind of grant %q: assigned, transferable or unrestricted", s)
}

// micros is a time as it is on the chain: to the microsecond, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Encode is the entry's content.
func (e *Entry) Encode() ([]byte, error) {
	g := &e.Grant
	if err := e.check(); err != nil {
		return nil, err
	}
	w := wireGrant{Version: entryVersion, Nonce: e.Nonce[:], Kind: KindName(g.Kind), Agents: g.Agents, Functions: g.Functions,
		Expires: micros(g.Expires), Uses: g.Uses, RateN: g.Rate.N, RatePer: int64(g.Rate.Per), MaxPayload: g.MaxPayload}
	if !e.Secret.IsZero() {
		w.Secret = e.Secret[:]
	}
	return sdk.Marshal(w)
}

func (e *Entry) check() error {
	switch us := micros(e.Grant.Expires); {
	case (e.Grant.Kind == sdk.GrantTransferable) == e.Secret.IsZero():
		return errors.New("grant: a secret, and only that, makes it transferable")
	case !e.Grant.Expires.IsZero() && us <= 0:
		return errors.New("grant: it expires before 1970")
	}
	return e.Grant.Check()
}

// ParseGrant reads an entry's content. It accepts what Encode writes and nothing
// else.
func ParseGrant(b []byte) (Entry, error) {
	var w wireGrant
	if err := sdk.UnmarshalStrict(b, &w); err != nil {
		return Entry{}, fmt.Errorf("grant: %w", err)
	}
	kind, err := ParseKind(w.Kind)
	switch {
	case w.Version != entryVersion:
		return Entry{}, fmt.Errorf("grant: version %d, only %d is known", w.Version, entryVersion)
	case err != nil:
		return Entry{}, err
	case len(w.Nonce) != 16:
		return Entry{}, fmt.Errorf("grant: nonce of %d bytes", len(w.Nonce))
	case len(w.Secret) != 0 && len(w.Secret) != 32:
		return Entry{}, fmt.Errorf("grant: hash of a secret of %d bytes", len(w.Secret))
	}
	e := Entry{Nonce: [16]byte(w.Nonce), Grant: sdk.Grant{Kind: kind, Agents: w.Agents, Functions: w.Functions, Expires: fromMicros(w.Expires),
		Uses: w.Uses, Rate: sdk.Rate{N: w.RateN, Per: time.Duration(w.RatePer)}, MaxPayload: w.MaxPayload}}
	if len(w.Secret) != 0 {
		e.Secret = sdk.Hash(w.Secret)
	}
	again, err := e.Encode()
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("grant: it is not in its one encoding")
	}
	return e, err
}

// EncodeRevoked is the content of the entry that ends a grant.
func EncodeRevoked(grant sdk.Hash) ([]byte, error) {
	return sdk.Marshal(wireRevoked{Version: entryVersion, Grant: grant})
}

// ParseRevoked reads what EncodeRevoked writes and nothing else.
func ParseRevoked(b []byte) (grant sdk.Hash, err error) {
	var w wireRevoked
	if err := sdk.UnmarshalStrict(b, &w); err != nil {
		return grant, fmt.Errorf("end of a grant: %w", err)
	}
	if w.Version != entryVersion {
		return grant, fmt.Errorf("end of a grant: version %d, only %d is known", w.Version, entryVersion)
	}
	again, err := EncodeRevoked(w.Grant)
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("end of a grant: it is not in its one encoding")
	}
	return w.Grant, err
}
