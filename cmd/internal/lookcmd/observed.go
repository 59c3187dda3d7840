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

// maxObservedBytes bounds an observation file, in bytes: room for some 200,000 cells.
const maxObservedBytes = 64 << 20

const observedHelp = `An observation file is JSON: what cells reported and what probes answered, as of one instant.

  {"cells": [{"name", "channel", "release", "digest", "state", "healthySince", "lastReport"}],
   "observations": [{"gate", "subject", "holds", "value", "validUntil"}]}

state is one of pending, applying, healthy, unhealthy, failed, stuck. A healthy cell has soaked from
healthySince to lastReport. gate is the name of a gate, subject the digest or version of a release.

An observation may also have channel, reason and observedAt. A cell may also have message, epoch,
sequence, infrastructure (the number of a template), granted ({"release", "digest", "sequence"}) and
failures ([{"release", "digest", "sequence", "reason", "at", "values"}]; values is true if only the
cell's values had changed). The file may also have since (when observing began), served ({channel:
highest sequence}) and learned, as a plan prints it, to go on from that plan.

Times are RFC 3339. If the repository has no cells, those of the file are used.`

// parseObserved parses an observation file strictly and returns every fault with its line. It is pure.
func parseObserved(file string, data []byte) (plan.Observed, []manifest.Fault) {
	r := &observedParser{file: file, data: data, observed: plan.Observed{Cells: map[string]*plan.CellState{}}}
	if len(data) > maxObservedBytes {
		r.fault(manifest.TooLarge, 0, "is larger than %d bytes", maxObservedBytes)
	} else {
		r.parse()
	}
	return r.observed, manifest.Sort(r.faults)
}

type observedParser struct {
	file     string
	data     []byte
	faults   []manifest.Fault
	observed plan.Observed

	lineOffset, line int // newlines before lineOffset; offsets mostly ascend
}

// fault adds a fault at a byte offset.
func (r *observedParser) fault(code manifest.FaultCode, offset int64, format string, args ...any) {
	at := min(int(offset), len(r.data))
	if at < r.lineOffset {
		r.lineOffset, r.line = 0, 0
	}
	r.line += bytes.Count(r.data[r.lineOffset:at], []byte{'\n'})
	r.lineOffset = at
	r.faults = append(r.faults, manifest.Fault{File: r.file, Line: r.line + 1, Code: code,
		Message: fmt.Sprintf(format, args...)})
}

func (r *observedParser) parse() {
	dec := json.NewDecoder(bytes.NewReader(r.data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		r.fault(manifest.Syntax, dec.InputOffset(), "is not a JSON object")
		return
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			r.addSyntaxFault(dec, err)
			return
		}
		key, at := t.(string), dec.InputOffset()
		if seen[key] {
			r.fault(manifest.Duplicate, at, "%q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "cells":
			err = parseArray(r, dec, key, r.addCell)
		case "observations":
			err = parseArray(r, dec, key, r.addObservation)
		case "since":
			err = parseValue(r, dec, key, &r.observed.Since)
		case "served":
			err = parseValue(r, dec, key, &r.observed.Served)
		case "learned":
			err = parseValue(r, dec, key, &r.observed.Learned)
		default:
			r.fault(manifest.UnknownField, at,
				"unknown field %q: it has cells, observations, since, served, learned", key)
			err = dec.Decode(new(json.RawMessage))
		}
		if err != nil {
			r.addSyntaxFault(dec, err)
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		r.addSyntaxFault(dec, err)
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		r.fault(manifest.Syntax, dec.InputOffset(), "there is more after the end of the object")
	}
}

// errStop ends parsing after a fault that is recorded already.
var errStop = errors.New("stop")

func (r *observedParser) addSyntaxFault(dec *json.Decoder, err error) {
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

// parseArray parses an array one element at a time. Only invalid JSON stops it.
func parseArray[T any](r *observedParser, dec *json.Decoder, key string, take func(at int64, v T)) error {
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
		if r.decodeStrict(raw, at, fmt.Sprintf("%s[%d]", key, i), &v) {
			take(at, v)
		}
	}
	_, err = dec.Token()
	return err
}

// parseValue parses a single value.
func parseValue[T any](r *observedParser, dec *json.Decoder, key string, into *T) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	r.decodeStrict(raw, dec.InputOffset()-int64(len(raw)), key, into)
	return nil
}

// decodeStrict decodes raw, which begins at offset at, and reports whether that succeeded.
func (r *observedParser) decodeStrict(raw []byte, at int64, what string, into any) bool {
	if key, offset := duplicateKey(raw); key != "" {
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
		r.fault(manifest.WrongType, at+wrong.Offset, "%s is a %s, want %s", what, wrong.Value, jsonTypeName(wrong.Type))
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

// jsonTypeName returns JSON's name for a type.
func jsonTypeName(t reflect.Type) string {
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
		return jsonTypeName(t.Elem())
	}
	return "whole number of at most 64 bits"
}

// duplicateKey returns a key that occurs twice in one object of raw, and its offset.
func duplicateKey(raw []byte) (key string, offset int64) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	type level struct {
		keys map[string]bool // nil: an array
		name bool            // a key comes next
	}
	var open []level
	for {
		t, err := dec.Token()
		if err != nil {
			return "", 0 // the end; decoding reports other errors
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
