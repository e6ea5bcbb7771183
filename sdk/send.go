package sdk

// SendOption is OnBehalf or WithReceipt.
type SendOption func(*Message)

// OnBehalf sends in the name of the agent that delegated: the other side sees both.
// It is of Send, CallRemote, Notify and NotifyAndWait.
func OnBehalf(p Proof) SendOption { return func(m *Message) { m.Behalf = p } }

// WithReceipt has both agents' chains keep a matching receipt: hashes of the
// request and of the reply, signed by both. It is durable on both sides when Send
// returns without an error, whatever becomes of this call. Where Send fails, the
// other side may have one, as it may have received the message.
func WithReceipt() SendOption { return func(m *Message) { m.Receipt = true } }

// Send sends in to another agent of the same DNA and waits for the answer of
// its Receive. It blocks until there is one, until an error is certain, or
// until c ends. Its error is an *Error.
func Send[Out any](c *Context, to AgentID, in any, options ...SendOption) (out Out, err error) {
	return send[Out](c, "Send", Message{To: to}, in, options)
}

// CallRemote runs a function of another agent's DNA as if its own client had called
// it, and waits for the answer, like Send. That agent's From is this one, and what
// the function commits goes to that agent's chain. It needs a grant of that agent's,
// else it is Refused: of the claims that this agent has, the node chooses.
func CallRemote[Out any](c *Context, agent AgentID, function string, in any, options ...SendOption) (out Out, err error) {
	if err := CheckName(function); err != nil {
		return out, &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredNo, HandlerCode: HandlerCodeInput,
			Text: "call of " + agent.Short() + ": function name: " + err.Error()}
	}
	return send[Out](c, "CallRemote", Message{To: agent, Function: function}, in, options)
}

func send[Out any](c *Context, what string, m Message, in any, options []SendOption) (out Out, err error) {
	if err := c.live(what); err != nil {
		return out, err
	}
	for _, o := range options {
		o(&m)
	}
	if m.Payload, err = Marshal(in); err != nil {
		return out, &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredNo, HandlerCode: HandlerCodeOutput,
			Text: "send to " + m.To.Short() + ": " + err.Error()}
	}
	b, err := c.call.host.Send(c.under(), m)
	if err != nil {
		return out, hostError(err, DeliveredUnknown)
	}
	if err := Unmarshal(b, &out); err != nil {
		return out, badAnswer(m.To, err)
	}
	return out, nil
}

// badAnswer is of an answer that does not decode.
func badAnswer(from AgentID, err error) error {
	return &Error{Code: HandlerFailed, Side: SideRemoteHandler, Delivered: DeliveredYes, HandlerCode: HandlerCodeOutput,
		Text: "answer of " + from.Short() + ": " + err.Error()}
}
