package ofrep

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/sluice-cd/sluice/flags"
)

// view is a Folded with the answers that were given of it, which are few: each flag has as many as it has variants.
type view struct {
	folded *flags.Folded
	pieces *sync.Map // outcome → []byte
}

// outcome says all that an answer depends on, in one revision.
type outcome struct {
	key, variant string
	reason       flags.Reason
}

// current gives the flags in force, and the instant; nil: there are none yet.
func (h *handler) current() (*view, int64) {
	folded, at := h.source.Current()
	if folded == nil {
		return nil, at
	}
	last := h.view.Load()
	if last != nil && last.folded == folded {
		return last, at
	}
	v := &view{folded: folded, pieces: &sync.Map{}}
	if last != nil && last.folded.Revision() == folded.Revision() {
		v.pieces = last.pieces
	}
	h.view.Store(v)
	return v, at
}

// piece gives the JSON of a flag's answer. It is shared.
func (v *view) piece(key string, r *flags.Result) []byte {
	of := outcome{key, r.Variant, r.Reason}
	if made, there := v.pieces.Load(of); there {
		return made.([]byte)
	}
	made := success(key, r)
	v.pieces.Store(of, made)
	return made
}

// success is OFREP's evaluationSuccess. Without a value the caller's own default counts.
func success(key string, r *flags.Result) []byte {
	return encode(struct {
		Key      string         `json:"key"`
		Reason   flags.Reason   `json:"reason"`
		Variant  string         `json:"variant,omitempty"`
		Value    any            `json:"value,omitempty"`
		Metadata map[string]any `json:"metadata,omitempty"`
	}{key, r.Reason, r.Variant, r.Value, r.Metadata})
}

// failed is OFREP's evaluationFailure, bulkEvaluationFailure or generalErrorResponse, by what there is to say.
func failed(key string, code flags.ErrorCode, details string) []byte {
	return encode(struct {
		Key     string          `json:"key,omitempty"`
		Code    flags.ErrorCode `json:"errorCode,omitempty"`
		Details string          `json:"errorDetails,omitempty"`
	}{key, code, details})
}

// failure gives the status and OFREP's code of a flag that could not be evaluated.
func failure(code flags.ErrorCode) (int, flags.ErrorCode) {
	switch code {
	case flags.ErrorFlagNotFound:
		return http.StatusNotFound, code
	case flags.ErrorParse, flags.ErrorInvalidContext:
		return http.StatusBadRequest, code
	}
	return http.StatusBadRequest, flags.ErrorGeneral
}

func fail(w http.ResponseWriter, status int, key string, code flags.ErrorCode, details string) {
	answer(w, status, failed(key, code, details))
}

// unready answers before there are flags.
func unready(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, "", "", "the agent has no flags yet")
}

func answer(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = []string{"application/json"}
	header["X-Content-Type-Options"] = []string{"nosniff"}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller who went away has no use for an error
}

// encode gives JSON as it is, without a newline at its end. What it is given came from JSON, and can be written.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // guard answers for it
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
