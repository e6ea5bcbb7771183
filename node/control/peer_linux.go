package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer fails unless the process at the other end runs as this one's user
// (unix(7), SO_PEERCRED: the user id at the time of its connect).
func checkPeer(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T is no Unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return checkUID(int64(cred.Uid), int64(os.Geteuid()))
}

func checkUID(peer, own int64) error {
	if peer != own {
		return fmt.Errorf("its user id is %d, only %d may call", peer, own)
	}
	return nil
}
