//go:build !linux

package controlplane

import (
	"net"
	"syscall"
	"time"
)

// Without these all is written by goroutines, and a dead peer is found by the keepalive of TCP.

func rawConn(net.Conn) syscall.RawConn { return nil }

func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }

func peek(syscall.RawConn) (sent, ended bool) { return false, false }

func userTimeout(net.Conn, time.Duration) {}
