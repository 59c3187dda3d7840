package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/access"
)

// Audience says who may use a route.
type Audience string

// An audience is one of these, or a role of a person or a program.
const (
	Public Audience = "public" // everyone, at the people's listeners
	Hook   Audience = "hook"   // everyone, at the people's listeners; the handler verifies the signature
	Cell   Audience = "cell"   // a cell by its key; on this machine without a cells' listener, by its name
	AnyKey Audience = "key"    // any peer that proved a key at the cells' listener

	Viewer   = Audience(access.Viewer)
	Operator = Audience(access.Operator)
	Approver = Audience(access.Approver)
	Admin    = Audience(access.Admin)
)

// Route is a row of the table: a method and path, its audience, and a handler. Either Handler or Typed is set.
type Route struct {
	Method, Path string
	Audience     Audience
	RequiresKey  bool           // with Cell: not where cells name themselves
	OfCell       bool           // {name}, or cell= in the query, is a cell: the role need hold for its channel only
	OfChannel    bool           // channel= in the query is a channel: the role need hold for it only
	Page         bool           // links of other sites may lead to it, although it is not public
	Background   bool           // open pages ask for it by themselves: it keeps no session from idling out
	Operation    huma.Operation // for the OpenAPI document; describeRoute adds Method, Path, Security and Errors
	Handler      Handler
	Typed        func(huma.API, huma.Operation)
}

// Pattern returns the route's pattern for http.ServeMux.
func (r Route) Pattern() string { return r.Method + " " + r.Path }

// Handler serves a request of an admitted caller.
type Handler func(w http.ResponseWriter, r *http.Request, c *Caller)

// Typed makes a handler of a function whose parameters, body and response are described and validated by their types.
// The function finds its caller with CallerOf.
func Typed[I, O any](handle func(context.Context, *I) (*O, error)) func(huma.API, huma.Operation) {
	return func(a huma.API, op huma.Operation) { huma.Register(a, op, handle) }
}

// Listener is the kind of listener at which a request arrived.
type Listener string

const (
	Loopback  Listener = "loopback" // plain, on this machine
	Socket    Listener = "socket"   // a unix socket, open to its owner only
	People    Listener = "people"   // TLS
	Cells     Listener = "cells"    // mutual TLS: the peer proved a key
	Untrusted Listener = "else"     // plain, from another machine or through a proxy
)

// Caller is an identified client. Requests of a cell may share one: handlers change none, but that of a registration.
type Caller struct {
	Listener   Listener
	Cell       string        // proved by its key; at a plain listener, as named in the request
	Key        string        // proved by the connection, in identity.FormatKey's format
	Boot       string        // boot id of a cell's agent; empty: an agent of an older version
	NewKey     bool          // Key is the cell's next key, and the previous one is still valid
	Grants     access.Grants // of a person or a program; none if unknown
	RemoteAddr string
	Name       string         // of the person or program, for the audit; empty if not identified
	TokenHash  string         // hash of the token in the request; empty without one
	Person     *access.Person // who signed in, or a workload; nil: neither
	Session    string         // hash of the secret of the session; empty without one
	Until      time.Time      // when what the caller showed ends; zero: never, or when somebody ends it
}

// IsLocal reports whether the caller is on this machine.
func (c *Caller) IsLocal() bool { return c.Listener == Loopback || c.Listener == Socket }

type callerKey struct{}

// WithCaller returns a context from which Typed handlers read the caller.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns the caller of a Typed handler, or an unidentified one.
func CallerOf(ctx context.Context) *Caller {
	if c, ok := ctx.Value(callerKey{}).(*Caller); ok {
		return c
	}
	return &Caller{Listener: Untrusted}
}
