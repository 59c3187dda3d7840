package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ReadBody reads a JSON body, or one of the types also, of at most limit bytes. If ReadBody returns false, it has
// written the response.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64, also ...string) ([]byte, bool) {
	// A page of another site can send a form to a loopback server, but not JSON without a CORS preflight.
	if kind := r.Header.Get("Content-Type"); kind != "application/json" && !isOneOf(kind, also) {
		WriteProblem(w, http.StatusUnsupportedMediaType, "Send it with Content-Type: application/json.")
		return nil, false
	}
	if r.ContentLength > limit {
		writeTooLarge(w, limit)
		return nil, false
	}
	const trusted = 64 << 10 // bytes of room that a length is believed for before any came
	read := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), trusted)+bytes.MinRead))
	_, err := read.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	body := read.Bytes()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		writeTooLarge(w, limit)
	case err != nil:
		WriteProblem(w, http.StatusBadRequest, "The body arrived incomplete: send it again.")
	}
	return body, err == nil
}

// isOneOf reports whether a Content-Type, with or without parameters, is JSON or one of the types also.
func isOneOf(header string, also []string) bool {
	kind, _, err := mime.ParseMediaType(header)
	return err == nil && (kind == "application/json" || slices.Contains(also, kind))
}

func writeTooLarge(w http.ResponseWriter, limit int64) {
	w.Header().Set("Connection", "close")
	WriteProblem(w, http.StatusRequestEntityTooLarge,
		"The body is larger than "+strconv.FormatInt(limit, 10)+" bytes: send less in one request.")
}

// WriteJSON writes v as the response.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error means that the client has gone
}

// ResponseTimeout bounds writing a response that does not wait.
const ResponseTimeout = 30 * time.Second

// SetWriteTimeout sets the deadline for writing the response, counted from now. ResponseWriters without deadlines, such
// as a test's recorder, ignore it.
func SetWriteTimeout(w http.ResponseWriter, within time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(within))
}

// MatchesETag compares If-None-Match with an ETag, weakly, by RFC 9110 section 13.1.2.
func MatchesETag(known, etag string) bool {
	for known != "" {
		var one string
		one, known, _ = strings.Cut(known, ",")
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == etag {
			return true
		}
	}
	return false
}
