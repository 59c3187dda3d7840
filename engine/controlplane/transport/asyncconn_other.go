//go:build !linux

package transport

import (
	"net"
	"syscall"
	"time"
)

// Elsewhere writes block or are made by goroutines, and TCP keepalive finds a dead peer.

func rawConn(net.Conn) syscall.RawConn { return nil }

func (a *nonblockingWrite) write(uintptr) bool { return true }

func peek(syscall.RawConn) (sent, ended bool) { return false, false }

func setUserTimeout(net.Conn, time.Duration) {}
