// Package peopleapi serves people: plan, status, why and events; cells' identities, tokens and the audit; flags,
// announcements and kills; git hosts' hooks; and public pages.
//
// It decides nothing and stores nothing: every response is derived from the engine's latest View, the store, or the
// repositories. An action is recorded in the audit before it is done, and is not done if that fails. Routes names each
// route's audience; package auth admits the caller before a handler is called. All methods may be called from any
// goroutine.
package peopleapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/view"
)

// Options configures the people's API.
type Options struct {
	Views      api.Views
	Repository api.Repository
	Journal    Journal
	Auth       *auth.Auth
	Members    Members         // nil if cells have no keys
	Tokens     Tokens          // nil if there are no tokens
	Pins       []string        // pins of the control plane's keys; empty without a cells' listener
	Address    string          // HOST:PORT of the cells' listener
	Flags      Killer          // nil without a flags repository
	Outbox     engine.Outbox   // queue of webhooks; nil without one
	OnPush     func()          // called after a push to Branch; nil turns hooks off
	HookSecret string          // signing secret shared with the git host; empty turns hooks off
	Branch     string          // empty: a push to any branch counts
	Facts      auth.Facts      // nil: there are none
	Exports    *exports.Keeper // nil: no exports are taken
	Followers  int             // concurrent followers of events; negative: no limit
	Shutdown   api.Shutdown
	Metrics    *metrics.Metrics
	Images     func() *view.ImagesSummary // nil: no images are served
	Log        zerolog.Logger
}

// API serves people.
type API struct {
	fleet     *fleetHandlers
	events    *eventHandlers
	members   *memberHandlers
	operators *tokenHandlers
	flags     *flagHandlers
	hooks     *hookHandlers
	exports   *exportHandlers
	pages     *pageHandlers
}

// New returns an API and starts nothing.
func New(o Options) *API {
	l := auditor{auth: o.Auth, log: o.Log}
	return &API{
		fleet: &fleetHandlers{o.Views, o.Facts, o.Images, o.Exports},
		events: &eventHandlers{views: o.Views, journal: o.Journal, auth: o.Auth,
			followers: limit.InFlight{Limit: int64(o.Followers)}, shutdown: o.Shutdown, log: o.Log},
		members: &memberHandlers{views: o.Views, members: o.Members, tokens: o.Tokens, address: o.Address,
			pins: o.Pins, pollBranch: o.OnPush, auditor: l},
		operators: &tokenHandlers{tokens: o.Tokens, auth: o.Auth, auditor: l},
		flags:     &flagHandlers{views: o.Views, killer: o.Flags, outbox: o.Outbox, auditor: l},
		hooks: &hookHandlers{secret: o.HookSecret, branch: o.Branch, onPush: o.OnPush,
			inFlight: limit.InFlight{Limit: maxHooks}, metrics: o.Metrics},
		exports: &exportHandlers{o.Views, o.Exports},
		pages:   &pageHandlers{o.Views, newPageRenderer(o.Repository, o.Log)},
	}
}

// Routes returns the people's routes.
func (a *API) Routes(d api.Docs) []api.Route {
	get, post, remove := http.MethodGet, http.MethodPost, http.MethodDelete
	op := func(tag, id, summary string, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{tag}, Summary: summary,
			Errors: append(errors, http.StatusServiceUnavailable)}
	}
	follow := op("people", "events", "The engine's decisions")
	follow.Description = "With Accept: text/event-stream, decisions are sent as they are made, after the one in " +
		"Last-Event-ID or since."
	follow.Middlewares = huma.Middlewares{a.events.streamMiddleware}
	kill := op("flags", "killFlag", "Turn a flag off in all connected cells within 2 s", 404, 507)
	kill.Description = "The kill is stored first, sent to cells at once, and committed later; only a commit lifts " +
		"it. It works even if a repository is broken, and may be repeated. The flag need not exist; a warning says " +
		"if it does not. 202: the kill is stored, and cells will be notified."
	kill.Responses = map[string]*huma.Response{
		"202": d.JSONResponse("The kill is stored; cells will be notified", Killed{})}
	return append([]api.Route{
		{Method: get, Path: "/v1/plan", Audience: api.Viewer, Typed: api.Typed(a.fleet.showPlan),
			Operation: op("people", "plan", "The current plan: actions, what is blocked, and when it is made again")},
		{Method: get, Path: "/v1/status", Audience: api.Viewer, Typed: api.Typed(a.fleet.showStatus),
			Operation: op("people", "status", "The status of all channels and of a page of cells", 404)},
		{Method: get, Path: "/v1/why/{name}", Audience: api.Viewer, Typed: api.Typed(a.fleet.showWhy),
			Operation: op("people", "why", "Why a cell or a channel runs what it runs", 404)},
		{Method: get, Path: "/v1/rollouts", Audience: api.Viewer, Typed: api.Typed(a.fleet.listRollouts),
			Operation: op("people", "rollouts",
				"The progress of rollouts: waves, cells in flight, failures, and what cells wait for", 404)},
		{Method: get, Path: "/v1/events", Audience: api.Viewer, Typed: api.Typed(a.events.listEvents),
			Operation: follow},

		{Method: get, Path: "/v1/cells", Audience: api.Viewer, Typed: api.Typed(a.members.listMembers),
			Operation: op("access", "cells", "All cells: what they run, and the state of their keys", 404)},
		{Method: get, Path: "/v1/cells/{name}", Audience: api.Viewer, Typed: api.Typed(a.members.showMember),
			Operation: op("access", "cell", "One cell", 404)},
		{Method: get, Path: "/v1/cells/{name}/exports", Audience: api.Viewer, Typed: api.Typed(a.exports.show),
			Operation: op("people", "exports", "The last values that a cell exported, and what is missing", 404)},
		{Method: post, Path: "/v1/cells/{name}/rotate", Audience: api.Operator, OfCell: true,
			Typed:     api.Typed(a.members.rotateKey),
			Operation: op("access", "rotateCell", "Ask the cell for a new key", 404, 409)},
		{Method: post, Path: "/v1/cells/{name}/revoke", Audience: api.Operator, OfCell: true,
			Typed: api.Typed(a.members.revokeCell),
			Operation: op("access", "revokeCell",
				"Revoke the cell's access within 2 s, until it registers with a new token", 404, 409)},
		{Method: post, Path: "/v1/cells/{name}/tokens", Audience: api.Admin, OfCell: true,
			Typed: api.Typed(a.members.createJoinToken),
			Operation: op("access", "joinCell", "A one-time token to register as this cell, valid for an hour",
				404, 409)},
		{Method: get, Path: "/v1/tokens", Audience: api.Admin, Typed: api.Typed(a.operators.listTokens),
			Operation: op("access", "tokens", "All tokens, without their secrets")},
		{Method: post, Path: "/v1/tokens", Audience: api.Admin, Typed: api.Typed(a.operators.addToken),
			Operation: op("access", "addToken", "A token for a person or a program", 409)},
		{Method: remove, Path: "/v1/tokens/{name}", Audience: api.Admin, Typed: api.Typed(a.operators.removeToken),
			Operation: op("access", "removeToken", "Revoke a token at once", 404)},
		{Method: get, Path: "/v1/audit", Audience: api.Admin, Typed: api.Typed(a.operators.listAudit),
			Operation: op("access", "audit", "Who did what to cells and tokens")},

		{Method: get, Path: "/v1/flags", Audience: api.Viewer, Typed: api.Typed(a.flags.listFlags),
			Operation: op("flags", "flags", "The state of all flags, and all kills", 404)},
		{Method: get, Path: "/v1/flags/{key}", Audience: api.Viewer, Typed: api.Typed(a.flags.showFlag),
			Operation: op("flags", "flag", "One flag, in every cell", 404)},
		{Method: post, Path: "/v1/flags/{key}/kill", Audience: api.Operator, Typed: api.Typed(a.flags.killFlag),
			Operation: kill},
		{Method: get, Path: "/v1/announcements", Audience: api.Viewer, Typed: api.Typed(a.flags.listAnnouncements),
			Operation: op("flags", "announcements", "All announcements and their states", 404)},
		{Method: get, Path: "/v1/announcements/{id}", Audience: api.Viewer, Typed: api.Typed(a.flags.showAnnouncement),
			Operation: op("flags", "announcement", "One announcement, in every cell", 404)},
		{Method: get, Path: "/v1/webhooks", Audience: api.Viewer, Typed: api.Typed(a.flags.listWebhooks),
			Operation: op("flags", "webhooks", "The state of webhooks", 404)},
	}, a.publicRoutes(d)...)
}

// publicRoutes returns the hook and the public pages.
func (a *API) publicRoutes(d api.Docs) []api.Route {
	return []api.Route{
		{Method: http.MethodPost, Path: HookPath, Audience: api.Hook, Handler: a.hooks.servePush,
			Operation: huma.Operation{
				OperationID: "pushed", Tags: []string{"hooks"}, Summary: "A push hook of a git host",
				Description: "GitHub, GitLab, Gitea, Forgejo, Bitbucket (Cloud and Data Center) and Azure DevOps. The " +
					"signature of the raw body, or the secret itself (GitLab, Azure DevOps), is verified before the " +
					"body is parsed. JSON, or a form with the JSON in the field payload. At most 1 MiB.",
				RequestBody: &huma.RequestBody{Required: true,
					Content: map[string]*huma.MediaType{
						"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}},
						formType:           {Schema: &huma.Schema{Type: huma.TypeObject}}}},
				Responses: map[string]*huma.Response{
					"200": d.JSONResponse("The hook is for another branch, or not a push", hooked{}),
					"202": d.JSONResponse("The branch is polled", hooked{}),
				},
				Errors: []int{400, 401, 404, 413, 415, 503},
			}},
		{Method: http.MethodGet, Path: "/announcements", Audience: api.Public, Handler: a.pages.servePage,
			Operation: describePage("announcementsPage", "What was announced and released, as a page", "text/html")},
		{Method: http.MethodGet, Path: "/announcements/{id}", Audience: api.Public, Handler: a.pages.servePage,
			Operation: describePage("announcementPage", "One announcement, as a page", "text/html",
				api.RequiredParam(api.Param("id", "path", "the announcement", api.TextSchema())))},
		{Method: http.MethodGet, Path: "/announcements.atom", Audience: api.Public, Handler: a.pages.serveFeed,
			Operation: describePage("announcementsFeed", "What was announced and released, as an Atom feed",
				"application/atom+xml")},
	}
}

func describePage(id, summary, kind string, more ...*huma.Param) huma.Operation {
	return huma.Operation{
		OperationID: id, Tags: []string{"readers"}, Summary: summary,
		Parameters: append([]*huma.Param{
			api.Param("channel", "query", "only items of this channel", api.TextSchema()),
			api.Param("If-None-Match", "header", "the ETag of the page that the reader has", api.TextSchema()),
		}, more...),
		Responses: map[string]*huma.Response{"200": api.Response("What is published", kind, api.TextSchema(), "ETag"),
			"304": {Description: "As before"}},
		Errors: []int{404, 500, 503},
	}
}
