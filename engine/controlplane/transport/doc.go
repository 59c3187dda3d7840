// Package transport serves connections: listeners, TLS keys, bounded numbers of strangers and handshakes, and
// connections whose writes never block (StreamConn).
//
// It knows no routes, cells or roles. It passes each request on with the kind of its listener, and proves that a peer
// at the cells' listener has its key; package auth decides whose key it is and what the peer may do. Everything read is
// limited in size and time, and each goroutine ends with its listener or connection. Functions may be called from any
// goroutine; a StreamConn has one writer at a time.
package transport
