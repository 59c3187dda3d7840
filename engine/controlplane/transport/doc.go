// Package transport is how bytes reach the control plane: its listeners, its TLS keys, handshakes in bounded number, and
// connections whose writer never waits for the other side (PushConn).
//
// It knows no routes, cells or roles. It tells the handler at which kind of listener a request came in, and hands over
// connections whose peer proved that it has a key; whose key that is, and what it may do, is decided elsewhere (package
// auth). Everything that it reads has a limit in size and in time, and each goroutine ends with its listener or its
// connection. Functions may be called from any goroutine; a PushConn has one writer at a time.
package transport
