package ofrep

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/sluice-cd/sluice/flags"
)

// snapshot is a Folded with a cache of encoded answers.
type snapshot struct {
	folded  *flags.Folded
	answers *answerCache
}

// answerCache holds the encoded answers of one revision. They are few: as many as a flag has variants.
type answerCache struct {
	mu    sync.RWMutex // guards known
	known map[answerKey]*answer
}

// answer is an encoded answer. It is immutable.
type answer struct {
	json []byte
	hash [answerHash]byte // of json
}

// answerHash is how many bytes of an answer's hash count.
const answerHash = 16

func newAnswer(json []byte) *answer {
	sum := sha256.Sum256(json)
	return &answer{json, [answerHash]byte(sum[:answerHash])}
}

// answerKey is all that an answer depends on within one revision.
type answerKey struct {
	key, variant string
	reason       flags.Reason
}

// currentSnapshot returns the flags in force and the instant; nil: no flags yet.
func (h *handler) currentSnapshot() (*snapshot, int64) {
	folded, at := h.source.Current()
	if folded == nil {
		return nil, at
	}
	last := h.snapshot.Load()
	if last != nil && last.folded == folded {
		return last, at
	}
	v := &snapshot{folded: folded, answers: &answerCache{known: map[answerKey]*answer{}}}
	if last != nil && last.folded.Revision() == folded.Revision() {
		v.answers = last.answers
	}
	h.snapshot.Store(v)
	return v, at
}

// flagAnswer returns a flag's answer.
func (v *snapshot) flagAnswer(key string, r *flags.Result) *answer {
	cacheKey, c := answerKey{key, r.Variant, r.Reason}, v.answers
	c.mu.RLock()
	cached := c.known[cacheKey]
	c.mu.RUnlock()
	if cached != nil {
		return cached
	}
	cached = newAnswer(encodeSuccess(key, r))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[cacheKey] = cached
	return cached
}

// encodeSuccess encodes OFREP's evaluationSuccess. Without a value the caller's default counts.
func encodeSuccess(key string, r *flags.Result) []byte {
	return encodeJSON(struct {
		Key      string         `json:"key"`
		Reason   flags.Reason   `json:"reason"`
		Variant  string         `json:"variant,omitempty"`
		Value    any            `json:"value,omitempty"`
		Metadata map[string]any `json:"metadata,omitempty"`
	}{key, r.Reason, r.Variant, r.Value, r.Metadata})
}

// encodeFailure encodes OFREP's evaluationFailure, bulkEvaluationFailure or generalErrorResponse, by the fields that
// are set.
func encodeFailure(key string, code flags.ErrorCode, details string) []byte {
	return encodeJSON(struct {
		Key     string          `json:"key,omitempty"`
		Code    flags.ErrorCode `json:"errorCode,omitempty"`
		Details string          `json:"errorDetails,omitempty"`
	}{key, code, details})
}

// failureStatus returns the HTTP status and OFREP's code of a failed evaluation.
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

// writeUnready answers while there are no flags.
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
	_, _ = w.Write(body) // the caller is gone
}

// encodeJSON encodes without HTML escapes and without a final newline. The values come from JSON, so encoding can't
// fail.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // protect recovers
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
