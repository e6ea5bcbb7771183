package control

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// service is the generated interface on top of a Node: it validates what comes
// in, converts what goes out.
type service struct {
	node       Node
	maxPayload int
}

var _ controlpb.ControlHandler = (*service)(nil)

func (s *service) Status(ctx context.Context, _ *controlpb.StatusRequest) (*controlpb.StatusResponse, error) {
	st, err := s.node.Status(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	return statusToWire(&st), nil
}

func (s *service) Call(ctx context.Context, r *controlpb.CallRequest) (*controlpb.CallResponse, error) {
	payload, err := s.input(r)
	if err != nil {
		return nil, errorToWire(err)
	}
	reply, err := s.node.Call(ctx, r.GetDna(), r.GetFunction(), payload)
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.CallResponse{}
	switch r.GetInput().(type) {
	case *controlpb.CallRequest_Payload:
		out.Payload = reply
	case *controlpb.CallRequest_Json:
		text, err := sdk.PayloadToJSON(reply)
		if err != nil {
			return nil, errorToWire(&sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
				HandlerCode: sdk.HandlerCodeOutput,
				Text:        fmt.Sprintf("%s returned, but its answer has no JSON form: %v; ask for it with payload instead of json", r.GetFunction(), err)})
		}
		out.Json = string(text)
	default:
		out.Payload = reply
		out.Json = jsonOrEmpty(reply)
	}
	return out, nil
}

// input is a call's payload, whichever form it came in.
func (s *service) input(r *controlpb.CallRequest) ([]byte, error) {
	if err := checkName("dna", r.GetDna(), maxDNAText); err != nil {
		return nil, err
	}
	if err := checkName("function", r.GetFunction(), sdk.MaxName); err != nil {
		return nil, err
	}
	payload := r.GetPayload()
	if j, ok := r.GetInput().(*controlpb.CallRequest_Json); ok {
		var err error
		if payload, err = sdk.PayloadFromJSON([]byte(j.Json)); err != nil {
			return nil, inputErrorf("json: %v", err)
		}
	}
	if len(payload) > s.maxPayload {
		return nil, tooLarge("payload", len(payload), s.maxPayload)
	}
	return payload, nil
}

// maxDNAText holds a DNA's name or the text form of its hash.
const maxDNAText = 80

// checkName refuses what no name can be, so that it reaches no log either.
func checkName(what, s string, longest int) error {
	switch {
	case s == "":
		return inputErrorf("%s: none given", what)
	case len(s) > longest:
		return inputErrorf("%s: %d bytes, at most %d allowed", what, len(s), longest)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return inputErrorf("%s: it contains control characters", what)
	}
	return nil
}

func jsonOrEmpty(payload []byte) string {
	text, err := sdk.PayloadToJSON(payload)
	if err != nil {
		return ""
	}
	return string(text)
}

func (s *service) Ping(ctx context.Context, r *controlpb.PingRequest) (*controlpb.PingResponse, error) {
	agent, err := parseAgent(r.GetAgent())
	if err != nil {
		return nil, errorToWire(err)
	}
	res, err := s.node.Ping(ctx, agent)
	if err != nil {
		return nil, errorToWire(err)
	}
	return pingToWire(&res), nil
}

func (s *service) Lookup(ctx context.Context, r *controlpb.LookupRequest) (*controlpb.LookupResponse, error) {
	agent, err := parseAgent(r.GetAgent())
	if err != nil {
		return nil, errorToWire(err)
	}
	res, err := s.node.Lookup(ctx, agent)
	if err != nil {
		return nil, errorToWire(err)
	}
	return lookupToWire(&res), nil
}

func parseAgent(text string) (sdk.AgentID, error) {
	id, err := sdk.ParseAgentID(text)
	if err != nil {
		return id, inputErrorf("agent: %v", err)
	}
	return id, nil
}

func (s *service) Chains(ctx context.Context, _ *controlpb.ChainsRequest) (*controlpb.ChainsResponse, error) {
	list, err := s.node.Chains(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.ChainsResponse{}
	for i := range list {
		out.Chains = append(out.Chains, chainInfoToWire(&list[i]))
	}
	return out, nil
}

func (s *service) Chain(ctx context.Context, r *controlpb.ChainRequest) (*controlpb.ChainResponse, error) {
	q, err := queryFromWire(r)
	if err != nil {
		return nil, errorToWire(err)
	}
	records, err := s.node.Chain(ctx, r.GetDna(), q)
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.ChainResponse{}
	for i := range records {
		out.Records = append(out.Records, recordToWire(&records[i]))
	}
	return out, nil
}

func (s *service) GetEntry(ctx context.Context, r *controlpb.GetEntryRequest) (*controlpb.GetEntryResponse, error) {
	if err := checkName("dna", r.GetDna(), maxDNAText); err != nil {
		return nil, errorToWire(err)
	}
	record, err := sdk.ParseHash(r.GetRecord())
	if err != nil {
		return nil, errorToWire(inputErrorf("record: %v", err))
	}
	res, err := s.node.GetEntry(ctx, r.GetDna(), record)
	if err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.GetEntryResponse{Record: recordToWire(&res)}, nil
}

func (s *service) VerifyChain(ctx context.Context, r *controlpb.VerifyChainRequest) (*controlpb.VerifyChainResponse, error) {
	if err := checkName("dna", r.GetDna(), maxDNAText); err != nil {
		return nil, errorToWire(err)
	}
	res, err := s.node.VerifyChain(ctx, r.GetDna())
	if err != nil {
		return nil, errorToWire(err)
	}
	return verifyToWire(&res), nil
}

func (s *service) ExportChain(ctx context.Context, r *controlpb.ExportChainRequest, stream *connect.ServerStream[controlpb.ExportChainResponse]) error {
	if err := checkName("dna", r.GetDna(), maxDNAText); err != nil {
		return errorToWire(err)
	}
	if err := s.node.ExportChain(ctx, r.GetDna(), ExportOptions{Private: r.GetPrivate(), Receipts: r.GetReceipts()}, &exportWriter{stream}); err != nil {
		return errorToWire(err)
	}
	return nil
}

// exportChunk is the most that one message of an export holds.
const exportChunk = 64 << 10

// exportWriter sends what is written to it. Send has copied the bytes when it
// returns.
type exportWriter struct {
	stream *connect.ServerStream[controlpb.ExportChainResponse]
}

func (w *exportWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), exportChunk)]
		if err := w.stream.Send(&controlpb.ExportChainResponse{Data: part}); err != nil {
			return n, err
		}
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}
