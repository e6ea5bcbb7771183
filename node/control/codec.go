package control

import (
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// strictJSON is protobuf's JSON form without unknown fields: connect's own codec
// drops them, and a call with a mistyped field would run without its input.
type strictJSON string

var _ connect.Codec = strictJSON("")

// strictJSONs are the codecs for the content types that connect takes for JSON.
func strictJSONs() connect.HandlerOption {
	return connect.WithHandlerOptions(connect.WithCodec(strictJSON("json")), connect.WithCodec(strictJSON("json; charset=utf-8")))
}

func (c strictJSON) Name() string { return string(c) }

func (c strictJSON) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return protojson.Marshal(m)
}

func (c strictJSON) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", v)
	}
	return protojson.Unmarshal(b, m)
}
