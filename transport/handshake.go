package transport

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"
)

// The handshake is Noise_IKpsk2_25519_AESGCM_SHA256 with an ML-KEM-768 secret
// as the psk. On the wire, with lengths big-endian and counting what follows:
//
//	1, initiator: length 2 | mac 16 | e 32 | static 48 | payload: (ek 1184 | hello) + tag 16
//	2, responder: length 2 | ct 1088 | e 32 | payload: hello + tag 16
//
//	mac = HMAC-SHA256(SHA-256("parley-mac-v1" | prologue | responder's static), Noise message 1)[:16]
//	psk = SHA-256("parley-psk-v1" | shared secret | ct | ek)
//
// The mac is no proof of anything: it lets a responder drop, for the price of
// a hash, what comes from somebody who does not even know its key.
const (
	macSize      = 16
	noiseTag     = 16
	dhSize       = 32
	minMessage1  = macSize + dhSize + dhSize + noiseTag + mlkem.EncapsulationKeySize768 + helloFixed + noiseTag
	maxMessage1  = minMessage1 - helloFixed + maxHello
	minMessage2  = mlkem.CiphertextSize768 + dhSize + helloFixed + noiseTag
	maxMessage2  = minMessage2 - helloFixed + maxHello
	macDomain    = "parley-mac-v1"
	pskDomain    = "parley-psk-v1"
	protocolName = "parley/1"
)

// errStranger: message 1 is not from somebody who dialled this key in this network.
var errStranger = errors.New("transport: message 1 is not for us")

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)

// prologue binds the protocol version and the network: both sides hash it.
func prologue(network string) []byte {
	p := append([]byte(protocolName), 0, byte(len(network)))
	return append(p, network...)
}

// identity is an agent key in the forms that handshakes need. Immutable.
type identity struct {
	agent    PeerKey
	static   noise.DHKey
	prologue []byte
	macKey   []byte
}

func newIdentity(key ed25519.PrivateKey, network string) (*identity, error) {
	id := &identity{agent: PeerKey(key[32:]), prologue: prologue(network)}
	pub, err := montgomery(id.agent)
	if err != nil {
		return nil, err
	}
	priv := staticPrivate(key)
	derived, err := ecdh.X25519().NewPrivateKey(priv)
	if err != nil || [32]byte(derived.PublicKey().Bytes()) != [32]byte(pub) {
		return nil, fmt.Errorf("%w: its private half does not belong to its public half", ErrKey)
	}
	id.static = noise.DHKey{Private: priv, Public: pub}
	id.macKey = macKey(id.prologue, pub)
	return id, nil
}

func macKey(prologue, responder []byte) []byte {
	h := sha256.New()
	h.Write([]byte(macDomain))
	h.Write(prologue)
	h.Write(responder)
	return h.Sum(nil)
}

func message1MAC(key, msg []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(msg)
	return m.Sum(nil)[:macSize]
}

func pskOf(secret, ct, ek []byte) []byte {
	h := sha256.New()
	h.Write([]byte(pskDomain))
	h.Write(secret)
	h.Write(ct)
	h.Write(ek)
	return h.Sum(nil)
}

// entropy is the seam for golden vectors; the zero value is the real thing.
type entropy struct {
	random      io.Reader // ephemerals
	newKEM      func() (*mlkem.DecapsulationKey768, error)
	encapsulate func(*mlkem.EncapsulationKey768) (secret, ct []byte)
}

func (e entropy) withDefaults() entropy {
	if e.random == nil {
		e.random = rand.Reader
	}
	if e.newKEM == nil {
		e.newKEM = mlkem.GenerateKey768
	}
	if e.encapsulate == nil {
		e.encapsulate = (*mlkem.EncapsulationKey768).Encapsulate
	}
	return e
}

func (id *identity) noise(initiator bool, peer []byte, random io.Reader) (*noise.HandshakeState, error) {
	return noise.NewHandshakeState(noise.Config{
		CipherSuite: suite, Random: random, Pattern: noise.HandshakeIK, Initiator: initiator,
		Prologue: id.prologue, PresharedKeyPlacement: 2, StaticKeypair: id.static, PeerStatic: peer,
	})
}

// keys are what a finished handshake leaves: one key per direction.
type keys struct {
	send, recv [32]byte
	peer       hello
	early      []byte // the initiator's: the answer to its question; nil if there is none
}

// initiator is the dialling side of one handshake.
type initiator struct {
	hs     *noise.HandshakeState
	kem    *mlkem.DecapsulationKey768
	ek     []byte
	macKey []byte
	asked  bool
	sent   int // bytes of message 1, its length left out
}

func newInitiator(id *identity, peer PeerKey, ent entropy) (*initiator, error) {
	ent = ent.withDefaults()
	static, err := montgomery(peer)
	if err != nil {
		return nil, err
	}
	in := &initiator{macKey: macKey(id.prologue, static)}
	if in.kem, err = ent.newKEM(); err != nil {
		return nil, fmt.Errorf("ML-KEM key: %w", err)
	}
	in.ek = in.kem.EncapsulationKey().Bytes()
	in.hs, err = id.noise(true, static, ent.random)
	return in, err
}

// message1 returns the first message as it goes onto the wire. ext are the
// extensions of its hello: a question, or nil.
//
//	-> mac, e, es, s, ss, {ek, hello}
func (in *initiator) message1(h hello, ext []byte) ([]byte, error) {
	payload := append(appendHello(append(make([]byte, 0, minMessage1+len(ext)), in.ek...), h), ext...)
	b := make([]byte, 2+macSize, 2+minMessage1+len(ext))
	b, _, _, err := in.hs.WriteMessage(b, payload)
	if err != nil {
		return nil, fmt.Errorf("handshake message 1: %w", err)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	copy(b[2:], message1MAC(in.macKey, b[2+macSize:]))
	in.asked, in.sent = ext != nil, len(b)-2
	return b, nil
}

// finish takes message 2 without its length.
//
//	<- ct, e, ee, se, psk, {hello}
func (in *initiator) finish(msg []byte) (*keys, error) {
	if len(msg) < minMessage2 || len(msg) > in.sent {
		return nil, fmt.Errorf("%w: handshake message 2 of %d bytes, message 1 had %d", ErrProtocol, len(msg), in.sent)
	}
	ct := msg[:mlkem.CiphertextSize768]
	secret, err := in.kem.Decapsulate(ct)
	if err != nil {
		return nil, fmt.Errorf("handshake message 2: %w", err)
	}
	if err := in.hs.SetPresharedKey(pskOf(secret, ct, in.ek)); err != nil {
		return nil, err
	}
	payload, send, recv, err := in.hs.ReadMessage(nil, msg[mlkem.CiphertextSize768:])
	if err != nil {
		return nil, fmt.Errorf("%w: handshake message 2: %w", ErrProtocol, err)
	}
	h, early, err := parseHello(payload)
	if err == nil && early != nil && !in.asked {
		err = fmt.Errorf("%w: an answer in message 2, and no question in message 1", ErrProtocol)
	}
	if err != nil {
		return nil, err
	}
	return &keys{send: send.UnsafeKey(), recv: recv.UnsafeKey(), peer: h, early: early}, nil
}

// responder is the listening side of one handshake.
type responder struct {
	id    *identity
	ent   entropy
	hs    *noise.HandshakeState
	ek    *mlkem.EncapsulationKey768
	agent PeerKey
	peer  hello
	early []byte // its question, as it came; nil if there is none

	answered *EarlyRead // the question, if message 2 has an answer
}

func newResponder(id *identity, ent entropy) *responder {
	return &responder{id: id, ent: ent.withDefaults()}
}

// messageMAC tells one message 1 from another.
type messageMAC [macSize]byte

// precheck drops, before any costly arithmetic, what can't be a message 1 for
// us, and returns its mac. msg is message 1 without its length.
func (r *responder) precheck(msg []byte) (mac messageMAC, err error) {
	if len(msg) < minMessage1 || len(msg) > maxMessage1 {
		return mac, errStranger
	}
	if !hmac.Equal(msg[:macSize], message1MAC(r.id.macKey, msg[macSize:])) {
		return mac, errStranger
	}
	return messageMAC(msg), nil
}

// read takes message 1 after precheck; then agent, peer and early are set.
func (r *responder) read(msg []byte) error {
	var err error
	if r.hs, err = r.id.noise(false, nil, r.ent.random); err != nil {
		return err
	}
	payload, _, _, err := r.hs.ReadMessage(nil, msg[macSize:])
	if err != nil {
		return errStranger
	}
	if r.agent, err = agentKey(r.hs.PeerStatic()); err != nil {
		return err
	}
	if r.agent == r.id.agent {
		return ErrSelf
	}
	if len(payload) < mlkem.EncapsulationKeySize768 {
		return errStranger
	}
	if r.ek, err = mlkem.NewEncapsulationKey768(payload[:mlkem.EncapsulationKeySize768]); err != nil {
		return fmt.Errorf("%w: encapsulation key: %w", ErrProtocol, err)
	}
	r.peer, r.early, err = parseHello(payload[mlkem.EncapsulationKeySize768:])
	return err
}

// message2 returns the second message as it goes onto the wire. ext are the
// extensions of its hello: an answer, or nil.
func (r *responder) message2(h hello, ext []byte) ([]byte, *keys, error) {
	secret, ct := r.ent.encapsulate(r.ek)
	if err := r.hs.SetPresharedKey(pskOf(secret, ct, r.ek.Bytes())); err != nil {
		return nil, nil, err
	}
	b := append(make([]byte, 2, 2+minMessage2+len(ext)), ct...)
	b, recv, send, err := r.hs.WriteMessage(b, append(appendHello(make([]byte, 0, helloFixed+len(ext)), h), ext...))
	if err != nil {
		return nil, nil, fmt.Errorf("handshake message 2: %w", err)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	return b, &keys{send: send.UnsafeKey(), recv: recv.UnsafeKey(), peer: r.peer}, nil
}
