// Package client is a person's end of debug sessions: it comes to the control plane, waits there for the cell, and
// speaks SSH with it once the cell has proved its host key by the key that git has of the cell. The control plane in
// between is trusted with nothing (D4).
//
// A Client is for one session. All functions may be called from any goroutine.
package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	handshakeTimeout = 30 * time.Second
	minPause         = 200 * time.Millisecond // between two dials: the control plane waits for the cell already
	maxPause         = 5 * time.Second
)

// Options says which session to come to. All fields but OnWait are required.
type Options struct {
	Transport http.RoundTripper // to the control plane, over HTTP/1.1
	Server    string            // the control plane's address, without a path
	Header    http.Header       // of the request: who asks
	Cell      string
	Request   string              // its ID
	Keys      []ed25519.PublicKey // that git has of the cell
	OnWait    func(why error)     // called when the cell did not come, before each further try; nil: not called
}

// Dial waits for the cell until ctx ends. It returns a connection to what has the host key that is returned, and for
// which the cell's key vouches.
func Dial(ctx context.Context, o Options) (net.Conn, ssh.PublicKey, error) {
	for failures := 0; ; failures++ {
		conn, answered, err := upgrade.Dial(ctx, o.Transport, o.Server+debug.PersonPath(o.Cell, o.Request), o.Header)
		if err == nil {
			key, err := o.openHostKey(answered.Get(debug.HostKeyHeader))
			if err != nil {
				return nil, nil, errors.Join(err, conn.Close())
			}
			return conn, key, nil
		}
		var refused *upgrade.Refusal
		final := errors.As(err, &refused) && !upgrade.IsAlone(err)
		if final || ctx.Err() != nil {
			return nil, nil, err
		}
		if o.OnWait != nil {
			o.OnWait(err)
		}
		if backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minPause, maxPause, failures))) != nil {
			return nil, nil, err
		}
	}
}

// openHostKey returns the host key that the cell vouches for.
func (o *Options) openHostKey(text string) (key ssh.PublicKey, err error) {
	vouched, err := upgrade.Decode[debug.HostKey](text)
	if err != nil {
		return nil, fmt.Errorf("read the session's host key: %w", err)
	}
	err = errors.New("the release repository has no key of the cell")
	for _, identity := range o.Keys {
		if key, err = vouched.Open(o.Cell, identity, o.Request); err == nil {
			return key, nil
		}
	}
	return nil, err
}

// Connect waits for the cell as Dial does, and proves the key that signed the request.
func Connect(ctx context.Context, o Options, signer ssh.Signer) (*ssh.Client, error) {
	conn, key, err := Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	timer := time.AfterFunc(handshakeTimeout, func() { _ = conn.Close() })
	defer timer.Stop()
	c, channels, requests, err := ssh.NewClientConn(conn, o.Cell, &ssh.ClientConfig{User: "debug",
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   ssh.FixedHostKey(key),
		HostKeyAlgorithms: []string{key.Type()}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the session with cell %s does not begin: %w", o.Cell, err), conn.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}
