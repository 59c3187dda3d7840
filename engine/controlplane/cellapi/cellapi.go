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
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/releases"
)

// Options configures the cells' API. Members and Pins are nil without a cells' listener.
type Options struct {
	Views        api.Views
	Repository   api.Repository
	Inbox        Inbox
	Exports      *exports.Keeper   // nil: no exports are taken
	Debug        *debugging.Keeper // nil: there is no debug access
	Members      Members
	Auth         *auth.Auth
	Pins         []string // pins of the control plane's keys
	SignedPins   []cells.SignedPins
	PollInterval time.Duration // for cells that poll without waiting
	Limits       Limits
	Trust        func() *trust.Published // the signed files, nil for none; nil: nothing is ever signed
	ContentDir   string                  // folder for large content; empty: the system's for temporary files
	Shutdown     api.Shutdown
	Metrics      *metrics.Metrics
	Log          zerolog.Logger
}

// API serves cells.
type API struct {
	desired      *desiredHandlers
	content      *contentHandlers
	reports      *reportHandlers
	exports      *exportHandlers
	registration *registrationHandlers
	trust        *trustHandlers
	debug        *debugHandlers
	fanout       *fanout
}

// New returns an API and starts nothing: goroutines run while there are subscribers.
func New(o Options) *API {
	answers, throttle := newAnswerCache(o.Views), newThrottle(o.Limits.withDefaults(), o.Metrics)
	signed := &trustHandlers{answers: answers, throttle: throttle, published: o.Trust}
	answers.trust = signed
	f := newFanout(answers, o.Auth, o.Metrics, o.Shutdown)
	return &API{
		desired: &desiredHandlers{answers: answers, fanout: f, throttle: throttle, pollInterval: o.PollInterval,
			headers: newHeaderValues()},
		content: &contentHandlers{answers: answers, auth: o.Auth, repository: o.Repository, throttle: throttle,
			releases: newPackedCache(releaseCacheSize, diskCacheSize, o.ContentDir),
			bundles:  newPackedCache(bundleCacheSize, diskCacheSize, o.ContentDir)},
		reports: &reportHandlers{inbox: o.Inbox, auth: o.Auth, answers: answers, throttle: throttle,
			pins: encodePins(o.Pins, o.SignedPins)},
		exports: &exportHandlers{keeper: o.Exports, auth: o.Auth, answers: answers, throttle: throttle,
			arriving: limit.InFlight{Limit: maxExportsArriving}, reading: make(chan struct{}, maxExportsRead)},
		registration: &registrationHandlers{members: o.Members, answers: answers, auth: o.Auth,
			limits: newRegistrationLimiter(),
			pins:   o.Pins, shutdown: o.Shutdown, log: o.Log},
		trust: signed, fanout: f, debug: &debugHandlers{o.Debug, answers, throttle},
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
	return append(slices.Concat(a.exportRoutes(d), a.trust.routes(d), a.debug.routes(d)), []api.Route{
		{Method: http.MethodGet, Path: DesiredPath, Audience: api.Cell, Handler: a.desired.serveDesired,
			Operation: describeDesired(d)},
		{Method: http.MethodGet, Path: "/v1/releases/{digest}", Audience: api.Cell, Handler: a.content.serveRelease,
			Operation: describeRelease(digest)},
		{Method: http.MethodGet, Path: "/v1/flagbundles/{digest}", Audience: api.Cell, Handler: a.content.serveBundle,
			Operation: describeBundle(digest)},
		{Method: http.MethodPost, Path: "/v1/reports", Audience: api.Cell, Handler: a.reports.serveReport,
			Operation: huma.Operation{
				OperationID: "report", Tags: cellTags(),
				Summary: "A cell's current state and its history since the last report",
				Description: "At most 64 KiB. The response comes after the report is durable: an acknowledged report " +
					"survives a crash.",
				RequestBody: describeReport(d),
				Responses:   map[string]*huma.Response{"200": d.JSONResponse("The report is stored", cells.Receipt{})},
				Errors:      []int{400, 404, 413, 415, 429, 500, 503, 507},
			}},
		{Method: http.MethodPost, Path: "/v1/key", Audience: api.Cell, RequiresKey: true,
			Handler: a.registration.serveNextKey, Operation: huma.Operation{
				OperationID: "nextKey", Tags: cellTags(),
				Summary: "A cell's next key",
				Description: "Presented over a connection of the current key, which is valid until the next key is " +
					"used. The signature covers the lines \"sluice next key 1\", the cell's name, the current key " +
					"and the next key, each with its newline.",
				RequestBody: d.JSONBody(identity.Next{}),
				Responses: map[string]*huma.Response{
					"200": d.JSONResponse("The key is the cell's", identity.Joined{})},
				Errors: []int{400, 409, 413, 415, 429, 503, 507},
			}},
		{Method: http.MethodPost, Path: "/v1/register", Audience: api.AnyKey, Handler: a.registration.serveRegister,
			Operation: huma.Operation{
				OperationID: "register", Tags: cellTags(),
				Summary: "A cell's first key, or the first after a new token",
				Description: "The connection proves the key. A repeated request with the same token and key has the " +
					"same response. All invalid tokens have the same 401.",
				RequestBody: d.JSONBody(identity.Join{}),
				Responses: map[string]*huma.Response{
					"200": d.JSONResponse("The key is the cell's", identity.Joined{})},
				Errors: []int{400, 413, 415, 429, 503, 507},
			}},
	}...)
}

func cellTags() []string { return []string{"cells"} }

func describeDesired(d api.Docs) huma.Operation {
	found := d.JSONResponse("The newest head, the cell's assignment, and what holds the cell back", cells.Desired{},
		"ETag", nextPollHeader)
	found.Content["text/event-stream"] = &huma.MediaType{Schema: api.TextSchema()}
	return huma.Operation{
		OperationID: "desired", Tags: cellTags(),
		Summary: "The desired state of a cell",
		Description: "With If-None-Match: 304 unless the response changed for this cell. With wait, the response " +
			"comes when it changes, or after the wait. Sluice-Next-Poll has the seconds after which to poll again. " +
			"With Accept: text/event-stream, each response is an event named desired whose id is the ETag: the first " +
			"at once, with a comment at least every 15 s, and retry when the server stops. A cell has at most two " +
			"streams.",
		Parameters: []*huma.Param{
			api.Param("cell", "query", "the cell's name, required on this machine where cells have no keys",
				api.TextSchema()),
			api.Param("wait", "query", "how long to wait for a change, such as 30s; at most 60s", api.TextSchema()),
			api.Param("If-None-Match", "header", "the ETag of the cell's last response", api.TextSchema()),
			api.Param("Last-Event-ID", "header", "the id of the last event of an interrupted stream", api.TextSchema()),
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
		Summary: "The bytes of a release",
		Description: "The canonical tar with this SHA-256, compressed with zstd if accepted. It never changes. " +
			"Ranges are of the uncompressed tar.",
		Parameters: []*huma.Param{
			api.RequiredParam(api.Param("digest", "path", "as the assignment names it", digest)),
			api.Param("cell", "query",
				"the requesting cell, which may download what it was offered; without it, what any cell was offered",
				api.TextSchema()),
			api.Param("Range", "header", "a part, to resume an interrupted download", api.TextSchema()),
		},
		Responses: map[string]*huma.Response{
			"200": api.Response("The tar", "application/x-tar", tar, "ETag"),
			"206": api.Response("A part of the tar", "application/x-tar", tar, "ETag"),
			"304": {Description: "As before"},
			"416": {Description: "The range is outside the tar"},
		},
		Errors: []int{404, 429, 500, 503},
	}
}

func describeBundle(digest *huma.Schema) huma.Operation {
	return huma.Operation{
		OperationID: "flagBundle", Tags: cellTags(),
		Summary: "The bytes of a flag bundle",
		Description: "JSON with this SHA-256, compressed with zstd if accepted. It never changes. 503: this replica " +
			"has not offered the cell such a bundle, but another replica may have.",
		Parameters: []*huma.Param{
			api.RequiredParam(api.Param("digest", "path", "as in flags.bundle of the response of /v1/desired", digest)),
			api.Param("cell", "query",
				"the requesting cell, which may download what it is offered; without it, what any cell is offered",
				api.TextSchema()),
		},
		Responses: map[string]*huma.Response{
			"200": api.Response("The bundle", "application/json", &huma.Schema{Type: huma.TypeObject}, "ETag"),
			"304": {Description: "As before"},
		},
		Errors: []int{404, 429, 500, 503},
	}
}
