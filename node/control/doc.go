// Package control is a node's control API: for the parley command, for the
// agent's own applications, for whoever operates the node.
//
// It is one protobuf service, parley.control.v1.Control, on the Unix socket
// control.sock in the node's data directory. connectrpc.com/connect serves it,
// so that gRPC, gRPC-Web and JSON over HTTP are one handler and curl is a
// client. docs/control.md describes it for users.
//
//	node.go      Node: what the API needs of a node, and what a Client offers
//	types.go     what the methods return
//	server.go    Listen, Server: the socket, the limits, the service
//	service.go   one method for each of Node's, between messages and Go values
//	client.go    Dial, Client: a Node behind the socket
//	errors.go    sdk.Error as a connect error and back
//	codec.go     JSON that refuses unknown fields
//	convert*.go  the hand-written conversion; it validates both ways
//	socket.go    how the socket is bound without ever being open to others
//	controlpb/   generated code, which never leaves this package
//
// Who may call: processes of the node's own user. The socket has mode 0600 in a
// directory of mode 0700 before anything can connect to it, and on Linux the
// server asks the kernel for each caller's user id (SO_PEERCRED).
//
// A call's deadline crosses, and a caller that goes away cancels its call. An
// *sdk.Error arrives as the value that the node returned.
package control
