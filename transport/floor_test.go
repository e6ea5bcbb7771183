package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// floor is the least that carries requests with ids over TCP: one writer that
// packs what waits into one write, records of up to 65,535 bytes, sealed or
// not, an inline echo on the far side. It has no limits, contexts, handlers,
// fragments or cancellation.
//
//	frame: length 4 | id 8 | body
type floor struct {
	conn     net.Conn
	sealed   bool
	tx, rx   *direction
	mu       sync.Mutex // guards:
	pending  []byte
	wait     map[uint64]chan []byte
	next     uint64
	kick     chan struct{}
	done     chan struct{}
	wg       sync.WaitGroup
	isServer bool
}

func newFloor(c net.Conn, sealed, server bool) *floor {
	tx, _ := newDirection([32]byte{1})
	rx, _ := newDirection([32]byte{1})
	f := &floor{conn: c, sealed: sealed, isServer: server, tx: tx, rx: rx,
		wait: make(map[uint64]chan []byte), kick: make(chan struct{}, 1), done: make(chan struct{})}
	f.wg.Add(2)
	go f.writer()
	go f.reader()
	return f
}

func (f *floor) close() {
	f.conn.Close()
	close(f.done)
	f.wg.Wait()
}

func (f *floor) send(id uint64, body []byte) {
	f.mu.Lock()
	f.pending = binary.BigEndian.AppendUint32(f.pending, uint32(8+len(body)))
	f.pending = binary.BigEndian.AppendUint64(f.pending, id)
	f.pending = append(f.pending, body...)
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

var replies = sync.Pool{New: func() any { return make(chan []byte, 1) }}

func (f *floor) request(body []byte) error {
	ch := replies.Get().(chan []byte)
	f.mu.Lock()
	f.next++
	id := f.next
	f.wait[id] = ch
	f.mu.Unlock()
	f.send(id, body)
	<-ch
	replies.Put(ch)
	return nil
}

func (f *floor) writer() {
	defer f.wg.Done()
	var spare, out []byte
	for {
		select {
		case <-f.done:
			return
		case <-f.kick:
		}
		runtime.Gosched()
		f.mu.Lock()
		batch := f.pending
		f.pending = spare[:0]
		f.mu.Unlock()
		out = out[:0]
		for rest := batch; len(rest) > 0; {
			n := min(len(rest), maxPlaintext)
			at := len(out)
			out = append(append(out, 0, 0), rest[:n]...)
			rest = rest[n:]
			if f.sealed {
				out = append(out, make([]byte, recordTag)...)
				f.tx.seal(out[at : len(out)-recordTag])
			} else {
				binary.BigEndian.PutUint16(out[at:], uint16(n))
			}
		}
		spare = batch
		if _, err := f.conn.Write(out); err != nil {
			return
		}
	}
}

func (f *floor) reader() {
	defer f.wg.Done()
	buf := make([]byte, 256<<10)
	var plain []byte
	start, end := 0, 0
	for {
		n, err := f.conn.Read(buf[end:])
		if err != nil {
			if err != io.EOF {
				return
			}
			return
		}
		end += n
		for end-start >= 2 {
			n := int(binary.BigEndian.Uint16(buf[start:]))
			if end-start < 2+n {
				break
			}
			rec := buf[start+2 : start+2+n]
			if f.sealed {
				if rec, err = f.rx.open(rec); err != nil {
					return
				}
			}
			plain = append(plain, rec...)
			start += 2 + n
		}
		copy(buf, buf[start:end])
		start, end = 0, end-start
		plain = f.frames(plain)
	}
}

// frames handles the whole frames of plain and returns the rest.
func (f *floor) frames(plain []byte) []byte {
	rest := plain
	for len(rest) >= 4 {
		n := int(binary.BigEndian.Uint32(rest))
		if len(rest) < 4+n {
			break
		}
		id, body := binary.BigEndian.Uint64(rest[4:]), rest[12:4+n]
		rest = rest[4+n:]
		if f.isServer {
			f.send(id, body)
			continue
		}
		f.mu.Lock()
		ch := f.wait[id]
		delete(f.wait, id)
		f.mu.Unlock()
		ch <- append([]byte(nil), body...)
	}
	return plain[:copy(plain, rest)]
}

// tlsPair puts TLS 1.3 with certificates on both sides onto a connection.
func tlsPair(b *testing.B, far, near net.Conn) (server, client net.Conn) {
	b.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"floor"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	c := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		ServerName: "floor", MinVersion: tls.VersionTLS13}
	s, t := tls.Server(far, c), tls.Client(near, c)
	shaken := make(chan error, 1)
	go func() { shaken <- s.Handshake() }()
	if err := errors.Join(t.Handshake(), <-shaken); err != nil {
		b.Fatal(err)
	}
	return s, t
}
