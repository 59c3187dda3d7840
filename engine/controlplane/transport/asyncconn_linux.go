package transport

import (
	"errors"
	"net"
	"syscall"
	"time"
)

const tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT of linux/tcp.h, absent from package syscall

// rawConn returns the connection's descriptor, or nil.
func rawConn(c net.Conn) syscall.RawConn {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// write writes as much of b as the kernel takes.
func (a *nonblockingWrite) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), a.b)
		switch {
		case err == nil:
			a.n = n
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EAGAIN):
			a.err = err
		}
		return true
	}
}

// peek reports whether the peer sent anything, or ended the connection.
func peek(raw syscall.RawConn) (sent, ended bool) {
	if raw == nil {
		return false, false
	}
	var one [1]byte
	err := raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		sent = n > 0
		ended = n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
		return true
	})
	return sent, ended || err != nil
}

// setUserTimeout ends the connection if the peer acknowledges nothing for so long.
func setUserTimeout(c net.Conn, after time.Duration) {
	if _, ok := c.(*net.TCPConn); !ok {
		return
	}
	if raw := rawConn(c); raw != nil {
		_ = raw.Control(func(fd uintptr) { // after an error heartbeats find a dead peer, later
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(after.Milliseconds()))
		})
	}
}
