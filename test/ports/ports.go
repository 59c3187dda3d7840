// Package ports finds ports for servers that tests start as processes of their own.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports lie below those that systems give to outgoing connections, 32768 and more: a test beside that opens ten
// thousand connections must not take one before the server that it was found for has it.
const (
	first = 10_000
	count = 22_000
)

// maxTries is how many ports are tried at most.
const maxTries = 1000

// Free returns n TCP ports on loopback where nothing listens.
func Free(n int) ([]int, error) {
	found := make([]int, 0, n)
	for range maxTries {
		if len(found) == n {
			return found, nil
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.N(count)))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close() // together, so that they differ
		found = append(found, l.Addr().(*net.TCPAddr).Port)
	}
	return nil, errors.New("no free ports were found")
}
