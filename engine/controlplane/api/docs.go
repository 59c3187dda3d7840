package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// Docs describes the values of plain handlers; those of Typed ones are described by their types.
type Docs struct{ Schemas huma.Registry }

// Schema is the schema of a value's type.
func (d Docs) Schema(of any) *huma.Schema {
	return d.Schemas.Schema(reflect.TypeOf(of), true, "")
}

// Response is an answer with a schema, and with headers.
func Response(description, kind string, schema *huma.Schema, named ...string) *huma.Response {
	return &huma.Response{Description: description, Headers: Headers(named...), Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
}

// Headers are headers of an answer.
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

// Param is a parameter, in path, query or header.
func Param(name, in, description string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: in, Description: description, Schema: schema}
}

// RequiredParam is p, which can't be left out.
func RequiredParam(p *huma.Param) *huma.Param {
	p.Required = true
	return p
}

// JSONResponse is an answer with a value.
func (d Docs) JSONResponse(description string, of any, headers ...string) *huma.Response {
	return Response(description, "application/json", d.Schema(of), headers...)
}

// JSONBody is a request's body in JSON.
func (d Docs) JSONBody(of any) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: d.Schema(of)}}}
}

// TextSchema is the schema of any text.
func TextSchema() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
