// Package transport keeps encrypted, mutually authenticated sessions between
// nodes that know one another by their Ed25519 agent keys, and carries requests
// both ways over them. docs/wire.md is the wire format.
//
// An [Endpoint] is one node's end of all its sessions:
//
//	e, err := transport.New(transport.Config{Key: key, Network: "main", Handler: h, Listen: ":4242"})
//	err = e.Bind()                            // a port in use is told here
//	go e.Run(ctx)                             // until ctx ends
//	s, _, err := e.Session(ctx, peer, addrs)  // the live session, or dial
//	reply, err := s.Request(ctx, transport.Outgoing{Kind: 2, ID: id, Body: body})
//
// Whoever completes a handshake holds the private half of the key that was
// dialled: nothing else needs to be proven. What a session is replaced by, when
// it is renewed or both sides dialled at once, a Session handle finds itself:
// [Session.Request] moves on as long as the request has not left.
//
// # Where to read
//
//	key.go        agent keys and their X25519 form
//	handshake.go  Noise IKpsk2 with ML-KEM-768; pure
//	hello.go      what each side says of itself in the handshake; pure
//	record.go     records; pure
//	frame.go      frames; pure
//	out.go        what waits to be written, and how it is packed; pure
//	in.go         what arrives in pieces, and its memory
//	servectx.go   the context of a served request
//	session.go    a session: its state, its end, its goodbye
//	write.go      the writing half    read.go    the reading half
//	request.go    our requests        answer.go  their answers
//	serve.go      the peer's requests handle.go  running their handlers
//	start.go      both, where nobody waits
//	work.go       the goroutines that do
//	ping.go       pings
//	live.go       liveness and renewal
//	quiet.go      quiet sessions, and what ticks remember
//	pool.go       which sessions are kept
//	endpoint.go   the table of sessions, start and end
//	admission.go  who may try a handshake        accept.go  the listening side
//	dial.go       the dialling side              linger.go  dials that nobody waits for
//	early.go      reads that ride in the handshake
//
// # Who owns what
//
// Run owns every goroutine: the accept loop, one for each handshake or dial,
// which becomes its session's reader, one writer for each session, and the
// workers that run handlers (work.go). The reader never waits for anything but the
// connection, so that two sides whose queues are full can't block one another:
// what it calls of its user, a Starter or a Receiver, must not wait either.
// The right to pack and write (sender.busy) is taken under Session.mu, by the
// writer or, where little is under way, by the goroutine that has just queued a
// message. Locks are taken in the order Endpoint.mu, Session.mu, serveCtx.mu,
// serveContexts.mu or workers.mu.
package transport
