package ofrep

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/sluice-cd/sluice/flags"
)

// snapshot is a Folded with the answers that were given of it, which are few: each flag has as many as it has variants.
type snapshot struct {
	folded  *flags.Folded
	answers *sync.Map // outcome → []byte
}

// answerKey says all that an answer depends on, in one revision.
type answerKey struct {
	key, variant string
	reason       flags.Reason
}

// currentSnapshot gives the flags in force, and the instant; nil: there are none yet.
func (h *handler) currentSnapshot() (*snapshot, int64) {
	folded, at := h.source.Current()
	if folded == nil {
		return nil, at
	}
	last := h.snapshot.Load()
	if last != nil && last.folded == folded {
		return last, at
	}
	v := &snapshot{folded: folded, answers: &sync.Map{}}
	if last != nil && last.folded.Revision() == folded.Revision() {
		v.answers = last.answers
	}
	h.snapshot.Store(v)
	return v, at
}

// flagAnswer gives the JSON of a flag's answer. It is shared.
func (v *snapshot) flagAnswer(key string, r *flags.Result) []byte {
	of := answerKey{key, r.Variant, r.Reason}
	if made, there := v.answers.Load(of); there {
		return made.([]byte)
	}
	made := encodeSuccess(key, r)
	v.answers.Store(of, made)
	return made
}

// encodeSuccess is OFREP's evaluationSuccess. Without a value the caller's own default counts.
func encodeSuccess(key string, r *flags.Result) []byte {
	return encodeJSON(struct {
		Key      string         `json:"key"`
		Reason   flags.Reason   `json:"reason"`
		Variant  string         `json:"variant,omitempty"`
		Value    any            `json:"value,omitempty"`
		Metadata map[string]any `json:"metadata,omitempty"`
	}{key, r.Reason, r.Variant, r.Value, r.Metadata})
}

// encodeFailure is OFREP's evaluationFailure, bulkEvaluationFailure or generalErrorResponse, by what there is to say.
func encodeFailure(key string, code flags.ErrorCode, details string) []byte {
	return encodeJSON(struct {
		Key     string          `json:"key,omitempty"`
		Code    flags.ErrorCode `json:"errorCode,omitempty"`
		Details string          `json:"errorDetails,omitempty"`
	}{key, code, details})
}

// failureStatus gives the status and OFREP's code of a flag that could not be evaluated.
func failureStatus(code flags.ErrorCode) (int, flags.ErrorCode) {
	switch code {
	case flags.ErrorFlagNotFound:
		return http.StatusNotFound, code
	case flags.ErrorParse, flags.ErrorInvalidContext:
		return http.StatusBadRequest, code
	}
	return http.StatusBadRequest, flags.ErrorGeneral
}

func writeFailure(w http.ResponseWriter, status int, key string, code flags.ErrorCode, details string) {
	writeAnswer(w, status, encodeFailure(key, code, details))
}

// writeUnready answers before there are flags.
func writeUnready(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	writeFailure(w, http.StatusServiceUnavailable, "", "", "the agent has no flags yet")
}

func writeAnswer(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = []string{"application/json"}
	header["X-Content-Type-Options"] = []string{"nosniff"}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller who went away has no use for an error
}

// encodeJSON gives JSON as it is, without a newline at its end. What it is given came from JSON, and can be written.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // guard answers for it
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
