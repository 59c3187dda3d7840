package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/access"
)

// Audience may use a route.
type Audience string

// One of these, or a person or a program with a role.
const (
	Public Audience = "public" // everyone, where people come in
	Hook   Audience = "hook"   // everyone, where people come in: the handler checks the signature
	Cell   Audience = "cell"   // a cell, by its key; without cells' listener, on this machine, whoever names one
	AnyKey Audience = "key"    // whoever proved to have a key, at the cells' listener

	Viewer   = Audience(access.Viewer)
	Operator = Audience(access.Operator)
	Approver = Audience(access.Approver)
	Admin    = Audience(access.Admin)
)

// Route is a row of the table of what there is, who may use it, and what answers. It has a Handler or is Typed.
type Route struct {
	Method, Path string
	Audience     Audience
	RequiresKey  bool           // of Cell: not where cells name themselves
	Operation    huma.Operation // for the OpenAPI document; Method, Path, Security and the answers of Errors are filled in
	Handler      Handler
	Typed        func(huma.API, huma.Operation)
}

// Pattern is the route as http.ServeMux has it.
func (r Route) Pattern() string { return r.Method + " " + r.Path }

// Handler answers a request of a caller that was let in.
type Handler func(w http.ResponseWriter, r *http.Request, c *Caller)

// Typed makes a handler of a function whose parameters, body and answer are described and checked by their types. CallerOf
// says who asks.
func Typed[I, O any](handle func(context.Context, *I) (*O, error)) func(huma.API, huma.Operation) {
	return func(a huma.API, op huma.Operation) { huma.Register(a, op, handle) }
}

// Listener is the kind of listener at which a request came in.
type Listener string

const (
	Loopback  Listener = "loopback" // plain, on this machine
	Socket    Listener = "socket"   // a unix socket, which only its owner can open
	People    Listener = "people"   // TLS
	Cells     Listener = "cells"    // TLS, and the peer proved to have a key
	Untrusted Listener = "else"     // plain, not from this machine: nobody is believed there
)

// Caller is who asks.
type Caller struct {
	Listener   Listener
	Cell       string      // known by its key; at a plain listener, as named, if it was
	Key        string      // that the connection proved, as identity.FormatKey writes it
	NewKey     bool        // Key is the cell's new one, and the one before is still good
	Role       access.Role // of a person or a program; empty: not known
	RemoteAddr string      // the peer's address
	Name       string      // of the person or program, for the audit; empty: nobody showed who they are
	TokenHash  string      // the hash of what was shown; empty: nothing was
}

// IsLocal reports whether the caller came in where only this machine does.
func (c *Caller) IsLocal() bool { return c.Listener == Loopback || c.Listener == Socket }

type callerKey struct{}

// WithCaller is a context for Typed handlers.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf says who asks, to a Typed handler. Without a caller it is nobody.
func CallerOf(ctx context.Context) *Caller {
	if c, ok := ctx.Value(callerKey{}).(*Caller); ok {
		return c
	}
	return &Caller{Listener: Untrusted}
}
