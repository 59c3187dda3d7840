package stacktest

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// query is a request: a form that is answered in XML, or JSON.
type query struct {
	request *http.Request
	service string
	form    url.Values
	body    map[string]any
	isJSON  bool
}

// read returns what is asked for, such as ssm:GetParameter.
func (q *query) read() (action string, err error) {
	data, err := io.ReadAll(q.request.Body)
	if err != nil {
		return "", err
	}
	if target := q.request.Header.Get("X-Amz-Target"); target != "" {
		q.isJSON = true
		_, action, _ = strings.Cut(target, ".")
		return q.service + ":" + action, json.Unmarshal(data, &q.body)
	}
	if q.form, err = url.ParseQuery(string(data)); err != nil {
		return "", err
	}
	return q.service + ":" + q.form.Get("Action"), nil
}

func (q *query) text(name string) string {
	if q.isJSON {
		text, _ := q.body[name].(string)
		return text
	}
	return q.form.Get(name)
}

// fields are an answer, in its order. A value is a text, a number, fields, or []fields, a list.
type fields []field

type field struct {
	name  string
	value any
}

func (q *query) reply(w http.ResponseWriter, action string, answer fields, err error) {
	_, name, _ := strings.Cut(action, ":")
	f := new(fault)
	if err != nil && !errors.As(err, &f) {
		f = &fault{"InternalFailure", err.Error(), http.StatusInternalServerError}
	}
	if q.isJSON {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if err != nil {
			w.WriteHeader(f.status)
			answer = fields{{"__type", f.code}, {"message", f.message}}
		}
		_ = json.NewEncoder(w).Encode(answer.asMap())
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	if err != nil {
		w.WriteHeader(f.status)
		_, _ = io.WriteString(w, "<ErrorResponse><Error><Type>Sender</Type>"+
			fields{{"Code", f.code}, {"Message", f.message}}.xml()+"</Error><RequestId>r</RequestId></ErrorResponse>")
		return
	}
	_, _ = fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>r</RequestId>"+
		"</ResponseMetadata></%[1]sResponse>", name, answer.xml())
}

func (f fields) asMap() map[string]any {
	all := map[string]any{}
	for _, one := range f {
		if below, ok := one.value.(fields); ok {
			all[one.name] = below.asMap()
			continue
		}
		all[one.name] = one.value
	}
	return all
}

func (f fields) xml() string {
	var b strings.Builder
	for _, one := range f {
		b.WriteString("<" + one.name + ">")
		switch v := one.value.(type) {
		case fields:
			b.WriteString(v.xml())
		case []fields:
			for _, member := range v {
				b.WriteString("<member>" + member.xml() + "</member>")
			}
		case []string:
			for _, member := range v {
				b.WriteString("<member>" + member + "</member>")
			}
		default:
			_ = xml.EscapeText(&b, fmt.Append(nil, v))
		}
		b.WriteString("</" + one.name + ">")
	}
	return b.String()
}
