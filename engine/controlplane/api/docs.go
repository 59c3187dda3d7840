package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// Docs describes the bodies of plain handlers. Typed handlers are described by their types.
type Docs struct{ Schemas huma.Registry }

// Schema returns the schema of a value's type.
func (d Docs) Schema(of any) *huma.Schema {
	return d.Schemas.Schema(reflect.TypeOf(of), true, "")
}

// Response describes a response with a schema and headers.
func Response(description, kind string, schema *huma.Schema, named ...string) *huma.Response {
	return &huma.Response{Description: description, Headers: Headers(named...),
		Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
}

// Headers describes text headers of a response.
func Headers(names ...string) map[string]*huma.Param {
	if len(names) == 0 {
		return nil
	}
	all := map[string]*huma.Param{}
	for _, name := range names {
		all[name] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return all
}

// Param describes a parameter in path, query or header.
func Param(name, in, description string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: in, Description: description, Schema: schema}
}

// RequiredParam marks p as required and returns it.
func RequiredParam(p *huma.Param) *huma.Param {
	p.Required = true
	return p
}

// JSONResponse describes a JSON response.
func (d Docs) JSONResponse(description string, of any, headers ...string) *huma.Response {
	return Response(description, "application/json", d.Schema(of), headers...)
}

// JSONBody describes a JSON request body.
func (d Docs) JSONBody(of any) *huma.RequestBody {
	return &huma.RequestBody{Required: true,
		Content: map[string]*huma.MediaType{"application/json": {Schema: d.Schema(of)}}}
}

// TextSchema returns the schema of plain text.
func TextSchema() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
