package transport

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/flynn/noise"
)

// A record is a Noise transport message with its length in front, big-endian,
// counting what follows:
//
//	length 2 | ciphertext | tag 16
//
// A record holds whole frames, one or more. Length included it has at most
// maxRecord bytes.
const (
	recordHead    = 2
	recordTag     = 16
	maxRecord     = 65535
	maxPlaintext  = maxRecord - recordHead - recordTag
	minCiphertext = frameHead + recordTag
)

// direction encrypts or decrypts the records of one direction: AES-256-GCM
// with Noise's nonce, 4 zero bytes and the 8-byte big-endian count of records
// before (Noise, section 12.4). It works in place and without allocation,
// which the library's CipherState can't.
type direction struct {
	aead  cipher.AEAD
	n     uint64
	nonce [12]byte
}

func newDirection(key [32]byte) (*direction, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &direction{aead: aead}, nil
}

func (d *direction) next() ([]byte, error) {
	if d.n > noise.MaxNonce {
		return nil, noise.ErrMaxNonce
	}
	binary.BigEndian.PutUint64(d.nonce[4:], d.n)
	d.n++
	return d.nonce[:], nil
}

// seal turns rec, whose plaintext begins at recordHead, into a record in
// place. rec must have room for the tag behind it.
func (d *direction) seal(rec []byte) ([]byte, error) {
	nonce, err := d.next()
	if err != nil {
		return nil, err
	}
	plain := rec[recordHead:]
	binary.BigEndian.PutUint16(rec, uint16(len(plain)+recordTag))
	d.aead.Seal(plain[:0], nonce, plain, nil)
	return rec[:len(rec)+recordTag], nil
}

// open decrypts a record's ciphertext in place.
func (d *direction) open(ciphertext []byte) ([]byte, error) {
	nonce, err := d.next()
	if err != nil {
		return nil, err
	}
	plain, err := d.aead.Open(ciphertext[:0], nonce, ciphertext, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: record %d: %w", ErrProtocol, d.n-1, err)
	}
	return plain, nil
}

// nextRecord finds the first record in b. It returns the record's ciphertext
// and what follows, or need, the number of bytes that b must have at least.
func nextRecord(b []byte) (ciphertext, rest []byte, need int, err error) {
	if len(b) < recordHead {
		return nil, b, recordHead, nil
	}
	n := int(binary.BigEndian.Uint16(b))
	if n < minCiphertext || n > maxRecord-recordHead {
		return nil, b, 0, fmt.Errorf("%w: record of %d bytes, %d to %d are allowed", ErrProtocol, n, minCiphertext, maxRecord-recordHead)
	}
	if len(b) < recordHead+n {
		return nil, b, recordHead + n, nil
	}
	return b[recordHead : recordHead+n], b[recordHead+n:], 0, nil
}
