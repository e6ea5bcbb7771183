//go:build !linux

package control

import "net"

// checkPeer has nothing to ask here: the modes of the socket and of the data
// directory keep other users out.
func checkPeer(net.Conn) error { return nil }
