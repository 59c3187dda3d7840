// Package cellapi serves cells: desired state by polls and streams, the bytes of releases and flag bundles, reports,
// and keys.
//
// It decides nothing and stores nothing. Every answer is derived from the engine's latest View, which is immutable, and
// a report is acknowledged after the engine's Inbox made it durable (invariant 8). An idle poll reads no database. No
// write waits for a slow cell. Package auth admits the caller before a handler is called, and again while a stream
// lasts. All methods may be called from any goroutine.
package cellapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/releases"
)

// Options configures the cells' API. Members and Pins are nil without a cells' listener.
type Options struct {
	Views        api.Views
	Repository   api.Repository
	Inbox        Inbox
	Members      Members
	Auth         *auth.Auth
	Pins         []string      // pins of the control plane's keys
	PollInterval time.Duration // for cells that poll without waiting
	Limits       Limits
	Shutdown     api.Shutdown
	Metrics      *metrics.Metrics
	Log          zerolog.Logger
}

// API serves cells.
type API struct {
	desired      *desiredHandlers
	content      *contentHandlers
	reports      *reportHandlers
	registration *registrationHandlers
	fanout       *fanout
}

// New returns an API and starts nothing: goroutines run while there are subscribers.
func New(o Options) *API {
	answers, throttle := newAnswerCache(o.Views), newThrottle(o.Limits.withDefaults(), o.Metrics)
	f := newFanout(answers, o.Auth, o.Metrics, o.Shutdown)
	return &API{
		desired:      &desiredHandlers{answers: answers, fanout: f, throttle: throttle, pollInterval: o.PollInterval, headers: newHeaderValues()},
		content:      &contentHandlers{answers: answers, repository: o.Repository, throttle: throttle, releases: newPackedCache(releaseCacheSize), bundles: newPackedCache(bundleCacheSize)},
		reports:      &reportHandlers{inbox: o.Inbox, auth: o.Auth, answers: answers, throttle: throttle, pins: o.Pins},
		registration: &registrationHandlers{members: o.Members, auth: o.Auth, limits: newRegistrationLimiter(), pins: o.Pins, shutdown: o.Shutdown, log: o.Log},
		fanout:       f,
	}
}

// Drain wakes the fan-out after Shutdown is closed: long polls and streams end with jitter over a few seconds, and each
// cell receives a time after which to retry.
func (a *API) Drain() { a.fanout.wakeShards() }

// AwaitDrained waits until there are no subscribers. If ctx ends first, it closes the remaining streams and polls.
// http.Server.Shutdown does not wait for connections that were taken over.
func (a *API) AwaitDrained(ctx context.Context) error { return a.fanout.awaitDrained(ctx) }

// Routes returns the cells' routes.
func (a *API) Routes(d api.Docs) []api.Route {
	digest := &huma.Schema{Type: huma.TypeString, Pattern: releases.DigestPattern}
	return []api.Route{
		{Method: http.MethodGet, Path: DesiredPath, Audience: api.Cell, Handler: a.desired.serveDesired, Operation: describeDesired(d)},
		{Method: http.MethodGet, Path: "/v1/releases/{digest}", Audience: api.Cell, Handler: a.content.serveRelease, Operation: describeRelease(digest)},
		{Method: http.MethodGet, Path: "/v1/flagbundles/{digest}", Audience: api.Cell, Handler: a.content.serveBundle, Operation: describeBundle(digest)},
		{Method: http.MethodPost, Path: "/v1/reports", Audience: api.Cell, Handler: a.reports.serveReport, Operation: huma.Operation{
			OperationID: "report", Tags: cellTags(),
			Summary:     "A cell's current state and the history since",
			Description: "At most 64 KiB. Answered once it is durable: a report that was acknowledged survives a crash.",
			RequestBody: d.JSONBody(cells.Report{}),
			Responses:   map[string]*huma.Response{"200": d.JSONResponse("What is kept", cells.Receipt{})},
			Errors:      []int{400, 404, 413, 415, 429, 500, 503, 507},
		}},
		{Method: http.MethodPost, Path: "/v1/key", Audience: api.Cell, RequiresKey: true, Handler: a.registration.serveNextKey, Operation: huma.Operation{
			OperationID: "nextKey", Tags: cellTags(),
			Summary:     "A cell's next key",
			Description: "Presented over a connection of the key so far, which is good until the next was used. The signature is over the lines \"sluice next key 1\", the cell's name, the key so far and the next, each with its newline.",
			RequestBody: d.JSONBody(identity.Next{}),
			Responses:   map[string]*huma.Response{"200": d.JSONResponse("The key is the cell's", identity.Joined{})},
			Errors:      []int{400, 409, 413, 415, 429, 503, 507},
		}},
		{Method: http.MethodPost, Path: "/v1/register", Audience: api.AnyKey, Handler: a.registration.serveRegister, Operation: huma.Operation{
			OperationID: "register", Tags: cellTags(),
			Summary:     "A cell's first key, or its first after a new token",
			Description: "The connection proves the key. The same token with the same key is answered the same; everything that is wrong with a token is one 401.",
			RequestBody: d.JSONBody(identity.Join{}),
			Responses:   map[string]*huma.Response{"200": d.JSONResponse("The key is the cell's", identity.Joined{})},
			Errors:      []int{400, 413, 415, 429, 503, 507},
		}},
	}
}

func cellTags() []string { return []string{"cells"} }

func describeDesired(d api.Docs) huma.Operation {
	found := d.JSONResponse("The newest head, the cell's assignment, and what holds it back", cells.Desired{}, "ETag", nextPollHeader)
	found.Content["text/event-stream"] = &huma.MediaType{Schema: api.TextSchema()}
	return huma.Operation{
		OperationID: "desired", Tags: cellTags(),
		Summary:     "What is desired of a cell",
		Description: "With If-None-Match: 304 while nothing changed for this cell. With wait, the answer comes when it changes, or when the time is over. Sluice-Next-Poll says in how many seconds to ask again. With Accept: text/event-stream the same comes as events named desired, their ids the ETags, the first at once; a comment at least every 15 s; retry, when the server stops. A cell has two streams at most.",
		Parameters: []*huma.Param{
			api.Param("cell", "query", "the cell's name, on this machine, where cells have no keys; with a key it is not needed", api.TextSchema()),
			api.Param("wait", "query", "how long to wait for a change, such as 30s; at most 60s", api.TextSchema()),
			api.Param("If-None-Match", "header", "the ETag of the answer that the cell has", api.TextSchema()),
			api.Param("Last-Event-ID", "header", "the same, of a stream that broke", api.TextSchema()),
		},
		Responses: map[string]*huma.Response{
			"200": found,
			"304": {Description: "As before", Headers: api.Headers("ETag", nextPollHeader)},
		},
		Errors: []int{400, 404, 429, 503},
	}
}

func describeRelease(digest *huma.Schema) huma.Operation {
	tar := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	return huma.Operation{
		OperationID: "release", Tags: cellTags(),
		Summary:     "The bytes of a release",
		Description: "The canonical tar whose SHA-256 the digest is, in zstd where that is accepted. It never changes. Ranges are of the tar itself.",
		Parameters: []*huma.Param{
			api.RequiredParam(api.Param("digest", "path", "as the assignment names it", digest)),
			api.Param("cell", "query", "the cell that asks: it gets what it was offered; without it, what any cell was", api.TextSchema()),
			api.Param("Range", "header", "a part, to go on where a connection broke", api.TextSchema()),
		},
		Responses: map[string]*huma.Response{
			"200": api.Response("The tar", "application/x-tar", tar, "ETag"),
			"206": api.Response("A part of the tar", "application/x-tar", tar, "ETag"),
			"304": {Description: "As before"},
			"416": {Description: "There is no such part"},
		},
		Errors: []int{404, 429, 500, 503},
	}
}

func describeBundle(digest *huma.Schema) huma.Operation {
	return huma.Operation{
		OperationID: "flagBundle", Tags: cellTags(),
		Summary:     "The bytes of a bundle of flags",
		Description: "JSON whose SHA-256 the digest is, in zstd where that is accepted. It never changes. 503: this replica has not told the cell of such a bundle, which one that knows more may have.",
		Parameters: []*huma.Param{
			api.RequiredParam(api.Param("digest", "path", "as flags.bundle of the answer to /v1/desired names it", digest)),
			api.Param("cell", "query", "the cell that asks: it gets what it is told; without it, what any cell is", api.TextSchema()),
		},
		Responses: map[string]*huma.Response{
			"200": api.Response("The bundle", "application/json", &huma.Schema{Type: huma.TypeObject}, "ETag"),
			"304": {Description: "As before"},
		},
		Errors: []int{404, 429, 500, 503},
	}
}
