package mesh

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h.
const tcpUserTimeout = 0x12

// limitSilence makes the kernel break a TCP connection whose bytes the peer does not acknowledge for d. Without it the
// time between retransmissions doubles for as long as a partition lasts, so that the lane stays dead for as long again
// after the network is well. Connections of other kinds keep their own habits.
func limitSilence(nc net.Conn, d time.Duration) error {
	for { // a TLS connection wraps the one that counts
		wrapper, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = wrapper.NetConn()
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return fmt.Errorf("limit silence: %w", err)
	}
	var option error
	err = raw.Control(func(fd uintptr) {
		option = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	})
	if err := errors.Join(err, option); err != nil {
		return fmt.Errorf("limit silence: %w", err)
	}
	return nil
}
