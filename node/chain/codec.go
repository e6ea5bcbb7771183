package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/parley-p2p/parley/sdk"
)

// Values of the file, all integers big-endian. Frozen: see testdata.
//
//	record   format 1 (=1) | header length 2 | header | signature 64 | content
//	         | CRC-32C 4 of the key and all before it
//	reply    from 32 | message 16 | time 8 (unix µs) | reply
//	         | CRC-32C 4 of the key and all before it
//	genesis  format 1 (=1) | name length 1 | name | integrity length 1 | integrity
const (
	valueFormat     = 1
	signatureLen    = 64
	crcLen          = 4
	recordFixed     = 1 + 2 + signatureLen + crcLen
	replyHead       = 32 + 16 + 8
	maxGenesisField = 64
	// genesisType is the entry type of record 0.
	genesisType = "parley.genesis"
)

// The checksum finds flipped bits, in the signature too, without the 50 µs of
// an Ed25519 verification; the hashes and Verify find intent.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func valueCRC(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 0, 8), seq) }

// typeKey is a key of the type index: type length 1 | type | sequence 8.
func typeKey(typ string, seq uint64) []byte {
	b := make([]byte, 0, 1+len(typ)+8)
	b = append(append(b, byte(len(typ))), typ...)
	return binary.BigEndian.AppendUint64(b, seq)
}

// newRecordValue encodes a record with an empty signature and no checksum;
// sealRecord fills them in. It returns the header's place in the value.
func newRecordValue(h *sdk.Header, content []byte) (value, header []byte) {
	b := make([]byte, 3, recordFixed+256+len(content))
	b[0] = valueFormat
	b = sdk.AppendHeader(b, h)
	n := len(b) - 3
	binary.BigEndian.PutUint16(b[1:3], uint16(n))
	var sig [signatureLen]byte
	b = append(append(b, sig[:]...), content...)
	b = append(b, 0, 0, 0, 0)
	return b, b[3 : 3+n]
}

// sealRecord puts the signature and the checksum into a value of newRecordValue.
func sealRecord(key, value, signature []byte) {
	n := int(binary.BigEndian.Uint16(value[1:3]))
	copy(value[3+n:], signature)
	body := value[:len(value)-crcLen]
	binary.BigEndian.PutUint32(value[len(body):], valueCRC(key, body))
}

// splitRecord checks a value's frame and checksum. The parts alias value.
func splitRecord(key, value []byte) (header, signature, content []byte, err error) {
	if len(value) < recordFixed {
		return nil, nil, nil, fmt.Errorf("it has %d bytes, at least %d expected", len(value), recordFixed)
	}
	body := value[:len(value)-crcLen]
	if valueCRC(key, body) != binary.BigEndian.Uint32(value[len(body):]) {
		return nil, nil, nil, errors.New("its checksum is wrong: bytes were changed")
	}
	if value[0] != valueFormat {
		return nil, nil, nil, fmt.Errorf("its format is %d, only %d is known", value[0], valueFormat)
	}
	n := int(binary.BigEndian.Uint16(body[1:3]))
	if 3+n+signatureLen > len(body) {
		return nil, nil, nil, fmt.Errorf("its header of %d bytes does not fit", n)
	}
	return body[3 : 3+n], body[3+n : 3+n+signatureLen], body[3+n+signatureLen:], nil
}

// decodeRecord is a record that shares no memory with value.
func decodeRecord(key, value []byte) (sdk.Record, error) {
	var r sdk.Record
	header, sig, content, err := splitRecord(key, value)
	if err != nil {
		return r, err
	}
	if r.Header, err = sdk.ParseHeader(header); err != nil {
		return r, err
	}
	copy(r.Signature[:], sig)
	r.Content = append(make([]byte, 0, len(content)), content...)
	return r, nil
}

type keptReply struct {
	from  sdk.AgentID
	id    sdk.MessageID
	micro int64
	reply []byte
	value []byte // the encoded whole, in the tail
}

func encodeReply(key []byte, r *keptReply) []byte {
	b := make([]byte, 0, replyHead+len(r.reply)+crcLen)
	b = append(append(b, r.from[:]...), r.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.micro))
	b = append(b, r.reply...)
	return binary.BigEndian.AppendUint32(b, valueCRC(key, b))
}

// decodeReply checks a kept reply; its bytes alias value.
func decodeReply(key, value []byte) (r keptReply, err error) {
	if len(key) != 8 || len(value) < replyHead+crcLen {
		return r, fmt.Errorf("it has %d bytes under a key of %d", len(value), len(key))
	}
	body := value[:len(value)-crcLen]
	if valueCRC(key, body) != binary.BigEndian.Uint32(value[len(body):]) {
		return r, errors.New("its checksum is wrong: bytes were changed")
	}
	copy(r.from[:], body)
	copy(r.id[:], body[32:])
	r.micro = int64(binary.BigEndian.Uint64(body[48:]))
	r.reply = body[replyHead:]
	return r, nil
}

// encodeGenesis is the entry of record 0.
func encodeGenesis(name, integrity string) []byte {
	b := append([]byte{valueFormat, byte(len(name))}, name...)
	return append(append(b, byte(len(integrity))), integrity...)
}

func parseGenesis(b []byte) (name, integrity string, err error) {
	field := func() (string, bool) {
		if len(b) == 0 || int(b[0]) > maxGenesisField || len(b) < 1+int(b[0]) {
			return "", false
		}
		f := string(b[1 : 1+b[0]])
		b = b[1+b[0]:]
		return f, true
	}
	if len(b) == 0 || b[0] != valueFormat {
		return "", "", errors.New("the genesis entry has an unknown format")
	}
	b = b[1:]
	name, ok := field()
	if !ok || name == "" {
		return "", "", errors.New("the genesis entry has no name")
	}
	integrity, ok = field()
	if !ok || len(b) != 0 {
		return "", "", errors.New("the genesis entry does not end where it should")
	}
	return name, integrity, nil
}
