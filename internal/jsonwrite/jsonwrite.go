// Package jsonwrite writes JSON without reflection, for what is written often: the same bytes as encoding/json, which
// it asks for whatever is rare. Its callers' tests compare with encoding/json.
//
// It knows no type of the project, and reads no JSON. It is pure. One goroutine uses a Writer.
package jsonwrite

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Writer appends JSON to Bytes, up to the first error. Each method writes the text before, which is JSON already, and
// then its value.
type Writer struct {
	Bytes []byte
	Err   error
}

// Raw writes text as it is.
func (w *Writer) Raw(text string) { w.Bytes = append(w.Bytes, text...) }

// Number writes a number.
func (w *Writer) Number(before string, n int64) {
	w.Raw(before)
	w.Bytes = strconv.AppendInt(w.Bytes, n, 10)
}

// NonZero writes a number, and nothing at all for zero.
func (w *Writer) NonZero(before string, n int64) {
	if n != 0 {
		w.Number(before, n)
	}
}

// String writes a text; encoding/json encodes texts that need an escape.
func (w *Writer) String(before, text string) {
	w.Raw(before)
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c >= 0x7f, c == '"', c == '\\', c == '<', c == '>', c == '&':
			w.Other("", text)
			return
		}
	}
	w.Bytes = append(w.Bytes, '"')
	w.Raw(text)
	w.Bytes = append(w.Bytes, '"')
}

// Time writes an instant.
func (w *Writer) Time(before string, t time.Time) {
	w.Raw(before)
	w.Bytes = append(w.Bytes, '"')
	b, err := t.AppendText(w.Bytes)
	if err != nil {
		w.setError(err)
		return
	}
	w.Bytes = append(b, '"')
}

// Other has encoding/json encode a value of any kind.
func (w *Writer) Other(before string, v any) {
	w.Raw(before)
	b, err := json.Marshal(v)
	w.setError(err)
	w.Bytes = append(w.Bytes, b...)
}

// Values writes an object whose fields are not known beforehand, most of which are texts and numbers.
func (w *Writer) Values(before string, all map[string]any) {
	w.Raw(before)
	if len(all) == 0 {
		w.Other("", all) // null or {}
		return
	}
	comma := `{`
	for _, key := range slices.Sorted(maps.Keys(all)) {
		w.String(comma, key)
		comma = `,`
		switch v := all[key].(type) {
		case string:
			w.String(`:`, v)
		case json.Number:
			w.digits(`:`, v)
		case map[string]any:
			w.Values(`:`, v)
		default:
			w.Other(`:`, v)
		}
	}
	w.Raw(`}`)
}

// digits writes a number unchanged if it has only digits; encoding/json validates other numbers.
func (w *Writer) digits(before string, n json.Number) {
	if len(n) == 0 || n[0] == '0' || strings.Trim(string(n), "0123456789") != "" {
		w.Other(before, n)
		return
	}
	w.Raw(before)
	w.Raw(string(n))
}

func (w *Writer) setError(err error) {
	if w.Err == nil {
		w.Err = err
	}
}
