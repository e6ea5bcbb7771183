package node

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
)

// The floor that the whole message cycle is measured against: four processes
// that pass bare frames (length 4, id 8, payload), over Unix sockets and one
// TCP connection, each with one writer that packs what waits. No encryption, no
// encoding, no deadlines, no chain: what the machine itself takes.

type bareConn struct {
	conn net.Conn
	in   *bufio.Reader

	mu     sync.Mutex // guards out and closed
	wake   *sync.Cond
	out    []byte
	closed bool
	done   chan struct{}
}

func newBareConn(c net.Conn) *bareConn {
	b := &bareConn{conn: c, in: bufio.NewReaderSize(c, 64<<10), done: make(chan struct{})}
	b.wake = sync.NewCond(&b.mu)
	go b.write()
	return b
}

func (b *bareConn) send(id uint64, payload []byte) {
	b.mu.Lock()
	b.out = binary.BigEndian.AppendUint32(b.out, uint32(len(payload)))
	b.out = binary.BigEndian.AppendUint64(b.out, id)
	b.out = append(b.out, payload...)
	b.mu.Unlock()
	b.wake.Signal()
}

func (b *bareConn) write() {
	defer close(b.done)
	var spare []byte
	for {
		b.mu.Lock()
		for len(b.out) == 0 && !b.closed {
			b.wake.Wait()
		}
		out := b.out
		b.out = spare[:0]
		b.mu.Unlock()
		if len(out) == 0 {
			return
		}
		if _, err := b.conn.Write(out); err != nil {
			return
		}
		spare = out
	}
}

// read calls f with each frame until the connection ends. The payload is valid
// during the call.
func (b *bareConn) read(f func(id uint64, payload []byte)) {
	var head [12]byte
	var payload []byte
	for {
		if _, err := io.ReadFull(b.in, head[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if cap(payload) < n {
			payload = make([]byte, n)
		}
		payload = payload[:n]
		if _, err := io.ReadFull(b.in, payload); err != nil {
			return
		}
		f(binary.BigEndian.Uint64(head[4:]), payload)
	}
}

func (b *bareConn) close() {
	b.conn.Close()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.wake.Signal()
	<-b.done
}

// floorRole runs one of the floor's helper processes:
//
//	echo UNIX          answers each frame with itself
//	relay UNIX TCP     listens on UNIX for its handler, dials TCP
//	relay UNIX ""      listens on both; prints its TCP address
//	relay … FILE       the same, and appends and syncs 512 bytes to FILE before it
//	                   passes an answer on
func floorRole(args []string) {
	switch args[0] {
	case "echo":
		c, err := net.Dial("unix", args[1])
		exitOn(err)
		b := newBareConn(c)
		b.read(b.send)
	case "relay":
		ul, err := net.Listen("unix", args[1])
		exitOn(err)
		var far net.Conn
		if args[2] != "" {
			far, err = net.Dial("tcp", args[2])
			exitOn(err)
			fmt.Println("ready")
		} else {
			tl, err := net.Listen("tcp", "127.0.0.1:0")
			exitOn(err)
			fmt.Println(tl.Addr())
			far, err = tl.Accept()
			exitOn(err)
		}
		near, err := ul.Accept()
		exitOn(err)
		f, n := newBareConn(far), newBareConn(near)
		toNear, toFar := n.send, f.send
		if len(args) > 3 && args[2] == "" { // Bob's answers go to the far side
			toFar = syncing(args[3], toFar)
		} else if len(args) > 3 {
			toNear = syncing(args[3], toNear)
		}
		go f.read(toNear)
		n.read(toFar)
	}
	os.Exit(0)
}

// syncing is send after one append and fdatasync.
func syncing(path string, send func(uint64, []byte)) func(uint64, []byte) {
	f, err := os.Create(path)
	exitOn(err)
	record := make([]byte, 512)
	return func(id uint64, payload []byte) {
		_, err := f.Write(record)
		exitOn(err)
		exitOn(fdatasync(f))
		send(id, payload)
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// floorCycle starts the floor's other three processes and returns a round trip
// through all of them, for up to slots callers at once.
// With durable, both relays sync before they pass an answer on: one at a time.
func floorCycle(b *testing.B, slots int, durable bool) func(slot int, payload []byte) {
	dir := b.TempDir()
	bob, alice := dir+"/b", dir+"/a"
	var bobLog, aliceLog []string
	if durable {
		bobLog, aliceLog = []string{dir + "/b.log"}, []string{dir + "/a.log"}
	}
	far := startRole(b, "floor", append([]string{"relay", bob, ""}, bobLog...)...)
	tcp := far.line()
	startRole(b, "floor", "echo", bob)
	startRole(b, "floor", append([]string{"relay", alice, tcp}, aliceLog...)...).line()
	c, err := net.Dial("unix", alice)
	if err != nil {
		b.Fatal(err)
	}
	conn := newBareConn(c)
	waiting := make([]chan struct{}, slots)
	for i := range waiting {
		waiting[i] = make(chan struct{}, 1)
	}
	var readers sync.WaitGroup
	readers.Go(func() { conn.read(func(id uint64, _ []byte) { waiting[id] <- struct{}{} }) })
	b.Cleanup(func() { conn.close(); readers.Wait() })
	return func(slot int, payload []byte) {
		conn.send(uint64(slot), payload)
		<-waiting[slot]
	}
}
