//go:build !linux

package transport

import (
	"net"
	"syscall"
	"time"
)

// Without these writes wait, or are made by goroutines, and a dead peer is found by the keepalive of TCP.

func rawConn(net.Conn) syscall.RawConn { return nil }

func (a *attempt) write(uintptr) bool { return true }

func peek(syscall.RawConn) (sent, ended bool) { return false, false }

func userTimeout(net.Conn, time.Duration) {}
