package controlplane

import (
	"net/http"
	"path"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/releases"
)

func newAPI(mux *gate) huma.API {
	c := huma.DefaultConfig("Sluice", "1")
	c.Info.Description = "What cells and people ask of a Sluice control plane. Errors are problem+json (RFC 9457); every answer carries X-Request-Id."
	c.DocsPath, c.SchemasPath = "", "" // the documentation page would load scripts from elsewhere
	c.CreateHooks = nil                // no $schema in answers
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":   {Type: "mutualTLS", Description: "TLS 1.3 with the cell's Ed25519 key, at the cells' listener; the server is known by its pins. Certificates are signed by their own key."},
		"token": {Type: "http", Scheme: "bearer", Description: "An operator's token with a role: viewer, operator, approver or admin. Not needed on a unix socket, nor for reading on loopback."},
	}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	return humago.New(mux, c)
}

// schemaName tells a cell's Hold from a channel's.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch path.Base(t.PkgPath()) {
	case "cells":
		return "Cell" + name
	case "channels":
		return "Channel" + name
	case "announce":
		return "Announced" + name
	case "outbox":
		return "Webhook" + name
	}
	return name
}

// routes says what there is. Operations that need the connection, or must be quick, are plain handlers and are
// described by hand; the others are described by their types.
func (s *Server) routes() {
	digest := &huma.Schema{Type: huma.TypeString, Pattern: releases.DigestPattern}
	text := &huma.Schema{Type: huma.TypeString}
	cell := param("cell", "query", "the cell's name, on this machine, where cells have no keys; with a key it is not needed", text)

	told := s.answer("The newest head, the cell's assignment, and what holds it back", "application/json", s.schema(cells.Desired{}), "ETag", nextPoll)
	told.Content["text/event-stream"] = &huma.MediaType{Schema: text}
	s.handle(s.desired, &huma.Operation{
		OperationID: "desired", Method: http.MethodGet, Path: "/v1/desired", Tags: []string{"cells"},
		Summary:     "What is desired of a cell",
		Description: "With If-None-Match: 304 while nothing changed for this cell. With wait, the answer comes when it changes, or when the time is over. Sluice-Next-Poll says in how many seconds to ask again. With Accept: text/event-stream the same comes as events named desired, their ids the ETags, the first at once; a comment at least every 15 s; retry, when the server stops. A cell has two streams at most.",
		Parameters: []*huma.Param{
			cell,
			param("wait", "query", "how long to wait for a change, such as 30s; at most 60s", text),
			param("If-None-Match", "header", "the ETag of the answer that the cell has", text),
			param("Last-Event-ID", "header", "the same, of a stream that broke", text),
		},
		Responses: map[string]*huma.Response{
			"200": told,
			"304": {Description: "As before", Headers: headers("ETag", nextPoll)},
		},
	}, 400, 404, 429, 503)
	s.handle(s.release, &huma.Operation{
		OperationID: "release", Method: http.MethodGet, Path: "/v1/releases/{digest}", Tags: []string{"cells"},
		Summary:     "The bytes of a release",
		Description: "The canonical tar whose SHA-256 the digest is, in zstd where that is accepted. It never changes. Ranges are of the tar itself.",
		Parameters: []*huma.Param{
			required(param("digest", "path", "as the assignment names it", digest)),
			param("cell", "query", "the cell that asks: it gets what it was offered; without it, what any cell was", text),
			param("Range", "header", "a part, to go on where a connection broke", text),
		},
		Responses: map[string]*huma.Response{
			"200": s.answer("The tar", "application/x-tar", &huma.Schema{Type: huma.TypeString, Format: "binary"}, "ETag"),
			"206": s.answer("A part of the tar", "application/x-tar", &huma.Schema{Type: huma.TypeString, Format: "binary"}, "ETag"),
			"304": {Description: "As before"},
			"416": {Description: "There is no such part"},
		},
	}, 404, 429, 500, 503)
	s.handle(s.bundle, &huma.Operation{
		OperationID: "flagBundle", Method: http.MethodGet, Path: "/v1/flagbundles/{digest}", Tags: []string{"cells"},
		Summary:     "The bytes of a bundle of flags",
		Description: "JSON whose SHA-256 the digest is, in zstd where that is accepted. It never changes. 503: this replica has not told the cell of such a bundle, which one that knows more may have.",
		Parameters: []*huma.Param{
			required(param("digest", "path", "as flags.bundle of the answer to /v1/desired names it", digest)),
			param("cell", "query", "the cell that asks: it gets what it is told; without it, what any cell is", text),
		},
		Responses: map[string]*huma.Response{
			"200": s.answer("The bundle", "application/json", &huma.Schema{Type: huma.TypeObject}, "ETag"),
			"304": {Description: "As before"},
		},
	}, 404, 429, 500, 503)
	s.handle(s.reports, &huma.Operation{
		OperationID: "report", Method: http.MethodPost, Path: "/v1/reports", Tags: []string{"cells"},
		Summary:     "A cell's current state and the history since",
		Description: "At most 64 KiB. Answered once it is durable: a report that was acknowledged survives a crash.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s.schema(cells.Report{})}}},
		Responses:   map[string]*huma.Response{"200": s.answer("What is kept", "application/json", s.schema(cells.Receipt{}))},
	}, 400, 404, 413, 415, 429, 500, 503, 507)
	s.handle(s.register, &huma.Operation{
		OperationID: "register", Method: http.MethodPost, Path: "/v1/register", Tags: []string{"cells"},
		Summary:     "A cell's first key, or its first after a new token",
		Description: "The connection proves the key. The same token with the same key is answered the same; everything that is wrong with a token is one 401.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s.schema(identity.Join{})}}},
		Responses:   map[string]*huma.Response{"200": s.answer("The key is the cell's", "application/json", s.schema(identity.Joined{}))},
	}, 400, 413, 415, 429, 503, 507)
	s.handle(s.nextKey, &huma.Operation{
		OperationID: "nextKey", Method: http.MethodPost, Path: "/v1/key", Tags: []string{"cells"},
		Summary:     "A cell's next key",
		Description: "Presented over a connection of the key so far, which is good until the next was used. The signature is over the lines \"sluice next key 1\", the cell's name, the key so far and the next, each with its newline.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s.schema(identity.Next{})}}},
		Responses:   map[string]*huma.Response{"200": s.answer("The key is the cell's", "application/json", s.schema(identity.Joined{}))},
	}, 400, 409, 413, 415, 429, 503, 507)
	s.handle(s.push, &huma.Operation{
		OperationID: "pushed", Method: http.MethodPost, Path: hookPath, Tags: []string{"hooks"},
		Summary:     "A git host's word of a push",
		Description: "GitHub, GitLab, Gitea and Forgejo. The signature over the raw body is checked before it is read. At most 1 MiB.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}}},
		Responses: map[string]*huma.Response{
			"200": s.answer("It concerns another branch, or is no push", "application/json", s.schema(hooked{})),
			"202": s.answer("The branch is looked at", "application/json", s.schema(hooked{})),
		},
	}, 400, 401, 404, 413, 415, 503)

	people := []string{"people"}
	huma.Register(s.api, s.secured(huma.Operation{OperationID: "plan", Method: http.MethodGet, Path: "/v1/plan", Tags: people,
		Summary: "What is done now, what is blocked, and when to look again", Errors: []int{503}}), s.plan)
	huma.Register(s.api, s.secured(huma.Operation{OperationID: "status", Method: http.MethodGet, Path: "/v1/status", Tags: people,
		Summary: "Where everything is: all channels, and a page of cells", Errors: []int{404, 503}}), s.status)
	huma.Register(s.api, s.secured(huma.Operation{OperationID: "why", Method: http.MethodGet, Path: "/v1/why/{name}", Tags: people,
		Summary: "Why a cell or a channel runs what it runs", Errors: []int{404, 503}}), s.why)
	huma.Register(s.api, s.secured(huma.Operation{OperationID: "rollouts", Method: http.MethodGet, Path: "/v1/rollouts", Tags: people,
		Summary: "How far heads have come: waves, cells in flight, failures, and who waits for what", Errors: []int{404, 503}}), s.rollouts)
	huma.Register(s.api, s.secured(huma.Operation{OperationID: "events", Method: http.MethodGet, Path: "/v1/events", Tags: people,
		Summary: "The engine's decisions", Description: "With Accept: text/event-stream as they come: Last-Event-ID or since says after which.",
		Middlewares: huma.Middlewares{s.followed}, Errors: []int{503}}), s.events)

	s.flagRoutes()
	s.pageRoutes()
	s.adminRoutes()
	operators := []string{"operators"}
	s.handle(s.livez, &huma.Operation{OperationID: "livez", Method: http.MethodGet, Path: "/livez", Tags: operators, Summary: "Whether the process answers",
		Responses: map[string]*huma.Response{"200": s.answer("It does", "application/json", s.schema(health{}))}})
	s.handle(s.readyz, &huma.Operation{OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: operators, Summary: "Whether cells can be served, or why not",
		Responses: map[string]*huma.Response{"200": s.answer("They can", "application/json", s.schema(health{}))}}, 503)
	s.handle(s.metrics.handler.ServeHTTP, &huma.Operation{OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: operators, Summary: "Metrics for Prometheus",
		Responses: map[string]*huma.Response{"200": s.answer("Prometheus text format", "text/plain", text)}})

	s.mux.ServeMux.HandleFunc("/", s.unmatched)
}

// handle adds a plain handler with its description and the errors that it may answer.
func (s *Server) handle(h http.HandlerFunc, op *huma.Operation, errors ...int) {
	s.mux.HandleFunc(op.Method+" "+op.Path, h)
	*op = s.secured(*op)
	model := s.schema(huma.ErrorModel{})
	for _, status := range append(errors, op.Errors...) {
		op.Responses[strconv.Itoa(status)] = s.answer(http.StatusText(status), "application/problem+json", model)
	}
	s.api.OpenAPI().AddOperation(op)
}

func (s *Server) schema(of any) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(of), true, "")
}

func (s *Server) answer(description, kind string, schema *huma.Schema, named ...string) *huma.Response {
	return &huma.Response{Description: description, Headers: headers(named...), Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
}

func headers(names ...string) map[string]*huma.Param {
	if len(names) == 0 {
		return nil
	}
	all := map[string]*huma.Param{}
	for _, name := range names {
		all[name] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return all
}

func param(name, in, description string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: in, Description: description, Schema: schema}
}

func required(p *huma.Param) *huma.Param {
	p.Required = true
	return p
}
