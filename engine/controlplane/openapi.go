package controlplane

import (
	"encoding/json"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// newAPI returns an API without routes. openAPIRoutes serves its document.
func newAPI(m *mux) huma.API {
	c := huma.DefaultConfig("Sluice", "1")
	c.Info.Description = "The API of a Sluice control plane, for cells and people. " +
		"Errors are problem+json (RFC 9457); every response has an X-Request-Id."
	// huma's documentation page would load scripts from other sites
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil // no $schema in responses
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key": {Type: "mutualTLS",
			Description: "TLS 1.3 with the cell's Ed25519 key, at the cells' listener. The server is identified by " +
				"its pins. Certificates are self-signed."},
		"token": {Type: "http", Scheme: "bearer",
			Description: "An operator's token with a role: viewer, operator, approver or admin. Not required on a " +
				"unix socket, nor for reading on loopback."},
	}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	return humago.New(m, c)
}

// schemaName distinguishes types of the same name in different packages, such as a cell's Hold and a channel's.
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

// describeRoute completes a route's operation with its security and its problem responses.
func describeRoute(a huma.API, r api.Route) huma.Operation {
	op := r.Operation
	op.Method, op.Path = r.Method, r.Path
	switch r.Audience {
	case api.Public, api.Hook:
		op.Security = []map[string][]string{}
	case api.Cell, api.AnyKey:
		op.Security = []map[string][]string{{"key": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	default:
		op.Security = []map[string][]string{{"token": {string(r.Audience)}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
	}
	if r.Handler == nil || op.Hidden {
		return op // huma derives the rest from types
	}
	problem := docsOf(a).Schema(huma.ErrorModel{})
	for _, status := range op.Errors {
		op.Responses[strconv.Itoa(status)] = api.Response(http.StatusText(status), "application/problem+json", problem)
	}
	return op
}

func docsOf(a huma.API) api.Docs { return api.Docs{Schemas: a.OpenAPI().Components.Schemas} }

// openAPIRoutes returns the routes that serve the OpenAPI document, encoded on the first request.
func openAPIRoutes(a huma.API) []api.Route {
	document := func(path, kind string, make func() ([]byte, error)) api.Route {
		made := sync.OnceValues(make)
		return api.Route{Method: http.MethodGet, Path: path, Audience: api.Public,
			Operation: huma.Operation{Hidden: true},
			Handler: func(w http.ResponseWriter, _ *http.Request, _ *api.Caller) {
				text, err := made()
				if err != nil {
					api.WriteError(w, err)
					return
				}
				w.Header().Set("Content-Type", kind)
				_, _ = w.Write(text) // an error means that the client has gone
			}}
	}
	all := a.OpenAPI()
	return []api.Route{
		document("/openapi.json", "application/openapi+json", func() ([]byte, error) { return json.Marshal(all) }),
		document("/openapi.yaml", "application/openapi+yaml", all.YAML),
		document("/openapi-3.0.json", "application/openapi+json", all.Downgrade),
		document("/openapi-3.0.yaml", "application/openapi+yaml", all.DowngradeYAML),
	}
}
