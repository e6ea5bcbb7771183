package node

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// testMessage asks a receive to do something.
type testMessage struct {
	Do   string
	Text string
	Data []byte
}

// testSend asks a function to send a testMessage.
type testSend struct {
	To      sdk.AgentID
	Message testMessage
	Commit  bool          // commit the reply to the own chain
	Within  time.Duration // 0: the call's deadline
	Receipt bool
	Proof   sdk.Proof
}

// testDrive asks for N messages one after another.
type testDrive struct {
	To      sdk.AgentID
	N       int
	Data    []byte
	Commit  bool
	Options testOptions
}

// testOptions are those of a send.
type testOptions struct {
	Receipt bool
	Proof   sdk.Proof
}

func (o *testOptions) list() (out []sdk.SendOption) {
	if o.Receipt {
		out = append(out, sdk.WithReceipt())
	}
	if len(o.Proof) > 0 {
		out = append(out, sdk.OnBehalf(o.Proof))
	}
	return out
}

// born tells a process from others: in a PID namespace of its own each one is 1.
var born = time.Now()

// testDNA does in each test and benchmark what a message asks for.
func testDNA() *sdk.Definition { return testDNANamed("test") }

// otherDNA does the same under another name.
func otherDNA() *sdk.Definition { return testDNANamed("other") }

func testDNANamed(name string) *sdk.Definition {
	return sdk.Define(name, "1",
		sdk.Function("send", testSendFunction),
		sdk.Function("drive", testDriveFunction),
		sdk.Function("delegate", func(c *sdk.Context, d sdk.Delegation) (sdk.Proof, error) { return c.Delegate(d) }),
		sdk.Function("revoke", func(c *sdk.Context, id sdk.Hash) (struct{}, error) { return struct{}{}, c.Revoke(id) }),
		sdk.Function("do", func(c *sdk.Context, m testMessage) (testMessage, error) { return testDo(c, m) }),
		sdk.Function("notify", testNotifyFunction),
		sdk.Function("heard", testHeardFunction),
		sdk.Notified(testNotified),
		sdk.Receive(testDo))
}

func testSendFunction(c *sdk.Context, in testSend) (testMessage, error) {
	if in.Within > 0 {
		limited, cancel := c.WithTimeout(in.Within)
		defer cancel()
		c = limited
	}
	options := testOptions{in.Receipt, in.Proof}
	reply, err := sdk.Send[testMessage](c, in.To, in.Message, options.list()...)
	if err == nil && in.Commit {
		_, err = c.Commit("reply", reply)
	}
	return reply, err
}

func testDriveFunction(c *sdk.Context, in testDrive) ([]int64, error) {
	took := make([]int64, 0, in.N)
	m := testMessage{Do: "echo", Data: in.Data}
	if in.Commit {
		m.Do = "commit"
	}
	for range in.N {
		began := time.Now()
		if _, err := sdk.Send[testMessage](c, in.To, m, in.Options.list()...); err != nil {
			return nil, err
		}
		took = append(took, int64(time.Since(began)))
	}
	return took, nil
}

func testDo(c *sdk.Context, m testMessage) (testMessage, error) {
	switch m.Do {
	case "echo":
	case "commit":
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
	case "commit and tell the process": // which tells runs of the same message apart
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
		m.Text = strconv.FormatInt(born.UnixNano(), 10)
	case "commit and fail":
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
		return m, sdk.Fail("declined", "not today")
	case "commit and panic":
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
		panic("as asked")
	case "commit and exit":
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
		os.Exit(3)
	case "commit and wait":
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
		// The file tells the test that the receive runs.
		if err := os.WriteFile(m.Text, nil, 0o600); err != nil {
			return m, err
		}
		<-c.Done()
		err := os.WriteFile(m.Text+".ended", nil, 0o600)
		return m, errors.Join(c.Err(), err)
	case "emit":
		return m, c.Emit(m.Text)
	case "emit and fail":
		if err := c.Emit(m.Text); err != nil {
			return m, err
		}
		return m, sdk.Fail("declined", "not today")
	case "strict":
		if _, err := c.Commit("note", m, sdk.AsStrict); err != nil {
			return m, err
		}
	case "send back":
		return sdk.Send[testMessage](c, c.From(), testMessage{Do: "echo", Text: strings.ToUpper(m.Text)})
	case "commit, big reply":
		if _, err := c.Commit("note", m); err != nil {
			return m, err
		}
		m.Data = make([]byte, len(m.Data)*64)
	case "big reply":
		m.Data = make([]byte, len(m.Data)*64)
	default:
		return m, sdk.Fail("unknown", "%q is nothing that this DNA does", m.Do)
	}
	return m, nil
}
