//go:build !unix

package transport

import "net"

func hungUp(net.Conn) bool { return false }
