//go:build unix

package nodejs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/parley-p2p/parley/sdk"
)

// handler is a process that has a node's part played by the test.
type handler struct {
	cmd    *exec.Cmd
	calls  *os.File // the node's end of the call socket
	socket string
	roots  *x509.CertPool // its certificate
	node   tls.Certificate
}

// newCertificate makes a certificate like a node's.
func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func startHandler(t *testing.T, program string) *handler {
	t.Helper()
	h := &handler{node: newCertificate(t), roots: x509.NewCertPool()}
	dir, err := os.MkdirTemp("", "parley-nodejs-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	syscall.ForkLock.RLock()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(ends[0])
		syscall.CloseOnExec(ends[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "")
	h.calls = os.NewFile(uintptr(ends[0]), "")
	h.cmd = exec.Command(program)
	h.cmd.ExtraFiles = []*os.File{theirs}
	h.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PARLEY_HANDLER=parley.handler.v1", "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + dir,
		"PLUGIN_CLIENT_CERT=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.node.Certificate[0]}))}
	out, err := h.cmd.StdoutPipe()
	if err == nil {
		err = h.cmd.Start()
	}
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.calls.Close()
		if h.cmd.ProcessState == nil {
			h.cmd.Process.Kill()
			h.cmd.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
	if err != nil || len(fields) != 6 || strings.Join(fields[:3], "|") != "1|1|unix" || fields[4] != "grpc" {
		t.Fatalf("handshake %q, %v", line, err)
	}
	h.socket = fields[3]
	der, err := base64.RawStdEncoding.DecodeString(fields[5])
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	h.roots.AddCert(c)
	return h
}

// dial makes a connection that presents certificates.
func (h *handler) dial(t *testing.T, own ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	conf := &tls.Config{RootCAs: h.roots, ServerName: "localhost", Certificates: own, MinVersion: tls.VersionTLS12}
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.socket)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ends waits for the process's exit code.
func (h *handler) ends(t *testing.T, want int) {
	t.Helper()
	kill := time.AfterFunc(20*time.Second, func() { h.cmd.Process.Kill() })
	defer kill.Stop()
	_ = h.cmd.Wait() // its code is looked at
	if got := h.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

// process holds a handler to what a node does not show: whom it serves, and when it exits.
func process(t *testing.T, program string) {
	t.Run("without a node", func(t *testing.T) {
		out, err := exec.Command(program).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "parley run --plugins") {
			t.Errorf("%v, %s", err, out)
		}
	})
	t.Run("describe", func(t *testing.T) {
		out, err := exec.Command(program, "--describe").Output()
		var d sdk.Description
		if err == nil {
			err = json.Unmarshal(out, &d)
		}
		if err != nil || d.Name != "node-faults" || d.Protocol != 1 || !d.Receives || !d.Validate || d.Notified || !slices.IsSorted(d.Functions) || len(d.Functions) < 10 || bytes.Contains(out, []byte("needs")) {
			t.Errorf("%s, %v", out, err)
		}
	})
	t.Run("only its node", func(t *testing.T) {
		h := startHandler(t, program)
		check := func(service string, own ...tls.Certificate) codes.Code {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := grpc_health_v1.NewHealthClient(h.dial(t, own...)).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
			return status.Code(err)
		}
		if got := check("plugin", h.node); got != codes.OK {
			t.Errorf("its node: %v", got)
		}
		if got := check("chess", h.node); got != codes.NotFound {
			t.Errorf("another service: %v", got)
		}
		if got := check("plugin"); got != codes.Unavailable {
			t.Errorf("nobody: %v", got)
		}
		if got := check("plugin", newCertificate(t)); got != codes.Unavailable {
			t.Errorf("somebody else: %v", got)
		}
		err := h.dial(t, h.node).Invoke(t.Context(), "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("what it does not have: %v", err)
		}
	})
	t.Run("control ends", func(t *testing.T) {
		h := startHandler(t, program)
		conn := h.dial(t, h.node)
		s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/parley.handler.v1.Handler/Control")
		if err == nil {
			err = s.SendMsg(&emptypb.Empty{})
		}
		if err == nil {
			_, err = s.Header() // at once
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		h.ends(t, 0)
	})
	t.Run("call socket ends", func(t *testing.T) {
		h := startHandler(t, program)
		h.calls.Close()
		h.ends(t, 0)
	})
	t.Run("a large number", func(t *testing.T) {
		h := startHandler(t, program)
		const number = 1<<63 + 1
		bytes := func(b []byte, field protowire.Number, v []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
		}
		varint := func(b []byte, field protowire.Number, v uint64) []byte {
			return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
		}
		start := bytes(bytes(bytes(bytes(varint(nil, 1, 1), 2, []byte("echo")), 3, make([]byte, 16)), 4, make([]byte, 32)), 5, []byte{7})
		frame := bytes(varint(nil, 1, number), 2, start)
		// In two pieces, and those in three writes.
		batch := bytes(bytes(nil, 2, frame[:9]), 3, frame[9:])
		all := append(binary.BigEndian.AppendUint32(nil, uint32(len(batch))), batch...)
		for _, piece := range [][]byte{all[:2], all[2:20], all[20:]} {
			if _, err := h.calls.Write(piece); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		want := bytes(nil, 1, bytes(varint(nil, 1, number), 2, bytes(nil, 1, []byte{7})))
		got := make([]byte, 4+len(want))
		if _, err := io.ReadFull(h.calls, got); err != nil || string(got[4:]) != string(want) {
			t.Errorf("got %x, %v; want %x", got, err, want)
		}
	})
	for name, bytes := range map[string]string{"endless": "\xff\xff\xff\xff", "malformed": "\x00\x00\x00\x02\x0a\x05"} {
		t.Run(name, func(t *testing.T) {
			h := startHandler(t, program)
			if _, err := h.calls.WriteString(bytes); err != nil {
				t.Fatal(err)
			}
			h.ends(t, 1)
		})
	}
}
