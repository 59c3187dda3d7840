package lookcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// maxObserved bounds an observation file, in bytes: room for some 200,000 cells.
const maxObserved = 64 << 20

const observedHelp = `An observation file is JSON: what cells reported and what probes answered, as of one instant.

  {"cells": [{"name", "channel", "release", "digest", "state", "healthySince", "lastReport"}],
   "observations": [{"gate", "subject", "holds", "value", "validUntil"}]}

state is one of pending, applying, healthy, unhealthy, failed, stuck. A healthy cell has soaked from
healthySince to lastReport. gate is a gate's name, subject a release's digest or version; channel, reason and
observedAt may be added. Cells may also have message, epoch, sequence, infrastructure (a template's number),
granted ({"release", "digest", "sequence"}) and failures ([{"release", "digest", "sequence", "reason", "at", "values"}];
values: true, if only its values had changed).
Beside cells and observations there may be: since (when observing began), served ({channel: highest sequence})
and learned, as a plan prints it, to go on from that plan.
Times are RFC 3339. If the repository has no cells, those of the observation are taken.`

// parseObserved reads an observation file, strictly: every fault is found, each with its line. Pure.
func parseObserved(file string, data []byte) (plan.Observed, []manifest.Fault) {
	r := &observedReader{file: file, data: data, o: plan.Observed{Cells: map[string]*plan.CellState{}}}
	if len(data) > maxObserved {
		r.fault(manifest.TooLarge, 0, "is larger than %d bytes", maxObserved)
	} else {
		r.read()
	}
	return r.o, manifest.Sort(r.faults)
}

type observedReader struct {
	file   string
	data   []byte
	faults []manifest.Fault
	o      plan.Observed

	counted, line int // newlines up to counted; lines are asked for in ascending order
}

// fault says what is wrong at a byte offset.
func (r *observedReader) fault(code manifest.FaultCode, offset int64, format string, args ...any) {
	at := min(int(offset), len(r.data))
	if at < r.counted {
		r.counted, r.line = 0, 0
	}
	r.line += bytes.Count(r.data[r.counted:at], []byte{'\n'})
	r.counted = at
	r.faults = append(r.faults, manifest.Fault{File: r.file, Line: r.line + 1, Code: code,
		Message: fmt.Sprintf(format, args...)})
}

func (r *observedReader) read() {
	dec := json.NewDecoder(bytes.NewReader(r.data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		r.fault(manifest.Syntax, dec.InputOffset(), "is not a JSON object")
		return
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			r.syntax(dec, err)
			return
		}
		key, at := t.(string), dec.InputOffset()
		if seen[key] {
			r.fault(manifest.Duplicate, at, "%q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "cells":
			err = elements(r, dec, key, r.cell)
		case "observations":
			err = elements(r, dec, key, r.observation)
		case "since":
			err = one(r, dec, key, &r.o.Since)
		case "served":
			err = one(r, dec, key, &r.o.Served)
		case "learned":
			err = one(r, dec, key, &r.o.Learned)
		default:
			r.fault(manifest.UnknownField, at,
				"unknown field %q: it has cells, observations, since, served, learned", key)
			err = dec.Decode(new(json.RawMessage))
		}
		if err != nil {
			r.syntax(dec, err)
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		r.syntax(dec, err)
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		r.fault(manifest.Syntax, dec.InputOffset(), "there is more after the end of the object")
	}
}

// errStop ends the reading of a file whose fault is noted already.
var errStop = errors.New("stop")

func (r *observedReader) syntax(dec *json.Decoder, err error) {
	at := dec.InputOffset()
	if s := new(json.SyntaxError); errors.As(err, &s) {
		at = s.Offset
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		at, err = int64(len(r.data)), errors.New("it ends too early")
	}
	if !errors.Is(err, errStop) {
		r.fault(manifest.Syntax, at, "is not JSON: %v", err)
	}
}

// elements reads an array, an element at a time. Only what is not JSON at all stops it.
func elements[T any](r *observedReader, dec *json.Decoder, key string, take func(at int64, v T)) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('[') {
		r.fault(manifest.WrongType, dec.InputOffset(), "%s is not an array", key)
		return errStop
	}
	for i := 0; dec.More(); i++ {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		at := dec.InputOffset() - int64(len(raw))
		var v T
		if r.strict(raw, at, fmt.Sprintf("%s[%d]", key, i), &v) {
			take(at, v)
		}
	}
	_, err = dec.Token()
	return err
}

// one reads a single value.
func one[T any](r *observedReader, dec *json.Decoder, key string, into *T) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	r.strict(raw, dec.InputOffset()-int64(len(raw)), key, into)
	return nil
}

// strict decodes raw, which begins at an offset, and tells whether it went well.
func (r *observedReader) strict(raw []byte, at int64, what string, into any) bool {
	if key, offset := repeated(raw); key != "" {
		r.fault(manifest.Duplicate, at+offset, "%s: %q is there twice", what, key)
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		return true
	}
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		if wrong.Field != "" {
			what += ": " + wrong.Field
		}
		r.fault(manifest.WrongType, at+wrong.Offset, "%s is a %s, want %s", what, wrong.Value, jsonWord(wrong.Type))
		return false
	}
	if wrong := new(time.ParseError); errors.As(err, &wrong) {
		r.fault(manifest.WrongValue, at+dec.InputOffset(),
			"%s: %s is not a time like 2026-11-24T09:00:00Z", what, wrong.Value)
		return false
	}
	code := manifest.WrongValue
	if strings.HasPrefix(err.Error(), "json: unknown field ") {
		code = manifest.UnknownField
	}
	r.fault(code, at+dec.InputOffset(), "%s: %s", what, strings.TrimPrefix(err.Error(), "json: "))
	return false
}

// jsonWord says what JSON calls a type.
func jsonWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	case reflect.Pointer:
		return jsonWord(t.Elem())
	}
	return "whole number of at most 64 bits"
}

// repeated finds a key that stands twice in one object of raw, and where.
func repeated(raw []byte) (key string, offset int64) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	type level struct {
		keys map[string]bool // nil: an array
		name bool            // a key comes next
	}
	var open []level
	for {
		t, err := dec.Token()
		if err != nil {
			return "", 0 // the end; what is wrong otherwise is found by decoding
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}, name: true})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) == 0 {
			continue
		}
		top := &open[len(open)-1]
		if top.keys == nil {
			continue
		}
		if s, ok := t.(string); ok && top.name {
			if top.keys[s] {
				return s, dec.InputOffset()
			}
			top.keys[s], top.name = true, false
			continue
		}
		top.name = true // a value ended
	}
}
