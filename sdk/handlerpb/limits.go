package handlerpb

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/parley-p2p/parley/sdk"
)

// Bounds of the contract. docs/handlers.md repeats them for other languages.
const (
	// Protocol is the version of the contract, in Describe and in go-plugin's handshake.
	Protocol = 1
	// DefaultMaxPayload is the payload limit where the node sets none.
	DefaultMaxPayload = 16 << 20
	// MaxCallbacks bounds the callbacks of one call that are open at once.
	MaxCallbacks = sdk.MaxParallel
	// MaxOpenCalls bounds the calls that have not ended, those included that the
	// node has given up and that don't heed their context. A process that would
	// exceed it is replaced.
	MaxOpenCalls = 4096
	// CallsFD is the descriptor of the call socket in the handler process.
	CallsFD = 3
	// MaxControl is the limit of gRPC's messages, which carry no payloads.
	MaxControl = 1 << 20

	maxName        = 64
	maxIntegrity   = 64
	maxFunctions   = 1024
	maxFunction    = 64
	maxSDK         = 128
	maxProperties  = 64 << 10
	maxEntryType   = 64
	maxQueryLimit  = 1000
	maxText        = 8 << 10
	maxCode        = 256
	maxAddress     = 512
	maxCause       = 1 << 10
	maxAttrs       = 32
	maxAttrKey     = 256
	maxAttrValue   = 4 << 10
	maxRemainingMS = 1 << 40 // 34 years

	// frameMargin is what a frame may take beside the payload: at most
	// 1,000 record headers (under 400 bytes each, framing included) in a query's answer.
	frameMargin = 1 << 20
)

// MaxMessage bounds a batch, and a frame that comes in pieces, in bytes.
func MaxMessage(maxPayload int) int { return maxPayload + frameMargin }

// ErrMalformed is wrapped by every error about what a message holds. The
// stream that it came on is not used again.
var ErrMalformed = errors.New("malformed message of the handler contract")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func checkLen(what string, n, low, high int) error {
	if n < low || n > high {
		return malformed("%s of %d bytes, %d to %d allowed", what, n, low, high)
	}
	return nil
}

// checkText is checkLen for what protobuf holds as a string.
func checkText(what, s string, low, high int) error {
	if !utf8.ValidString(s) {
		return malformed("%s is not UTF-8", what)
	}
	return checkLen(what, len(s), low, high)
}

// clip makes s fit for a string field whose exact content does not matter.
func clip(s string, limit int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

func fixed[T ~[16]byte | ~[32]byte | ~[64]byte](what string, b []byte) (v T, err error) {
	if len(b) != len(v) {
		return v, malformed("%s of %d bytes, %d expected", what, len(b), len(v))
	}
	return T(b), nil
}
