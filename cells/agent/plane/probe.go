package plane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Probe asks the control plane whether it is there, with a key that is made for this alone: nothing is registered, and
// no token is sent. It returns the control plane's time; zero: it said none.
func (c *Client) Probe(ctx context.Context) (time.Time, error) {
	l := c.link.Load()
	if c.credentials != nil {
		address, pins := c.home()
		seed, err := newSeed()
		if err != nil {
			return time.Time{}, err
		}
		if l, err = c.linkTo(address, seed, func() []string { return pins }); err != nil {
			return time.Time{}, err
		}
		defer l.http.CloseIdleConnections()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+"/readyz", nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the control plane: %w", err)
	}
	response, err := l.http.Do(request)
	if err != nil {
		return time.Time{}, err
	}
	_, _ = io.CopyN(io.Discard, response.Body, maxReceipt) // what it says does not matter
	_ = response.Body.Close()
	at, _ := http.ParseTime(response.Header.Get("Date"))
	return at, nil
}

// Address returns where the control plane is.
func (c *Client) Address() string {
	if c.credentials == nil {
		return c.link.Load().base
	}
	if c.base != "" {
		return c.base
	}
	address, _ := c.home()
	return address
}

// IsRegistered reports whether the cell has a key that was registered, or needs none.
func (c *Client) IsRegistered() bool {
	return c.credentials == nil || len(c.credentials.snapshot().Key) > 0
}

// home returns the address and the pins that a registration uses, or that the cell has.
func (c *Client) home() (address string, pins []string) {
	s := c.credentials.snapshot()
	switch {
	case c.token != nil:
		return c.token.Address, c.token.Pins
	case s.Registration != nil && len(s.Key) == 0:
		return s.Registration.Address, s.Registration.Pins
	}
	return s.Address, s.Pins
}
