package controlplane

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
)

// bodyReadTimeout bounds reading a body, also by net/http before it answers. It is shorter than api.ResponseTimeout, so
// that there is time left to report the timeout.
const bodyReadTimeout = 20 * time.Second

// responseRecorder records the status and size of a response for the log and the metrics.
type responseRecorder struct {
	http.ResponseWriter
	status   int
	bytes    int64
	err      error // internal error, for the log
	listener api.Listener
	caller   *api.Caller // for the log; nil if the caller was not identified
	id       [1]string   // of the request, as the value of a header
}

func (a *responseRecorder) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *responseRecorder) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *responseRecorder) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// NoteError implements api.Recorder.
func (a *responseRecorder) NoteError(err error) { a.err = err }

// NoteStatus implements api.Recorder.
func (a *responseRecorder) NoteStatus(status int) { a.status = status }

// serveRequest wraps every request: request id, limits, recovery from panics, one log line, metrics.
func (s *Server) serveRequest(w http.ResponseWriter, r *http.Request, listener api.Listener) {
	begun := time.Now()
	a := &responseRecorder{ResponseWriter: w, listener: listener}
	id := r.Header.Get("X-Request-Id")
	if !validRequestID(id) {
		id = newRequestID()
	}
	a.id[0] = id
	a.Header()["X-Request-Id"] = a.id[:]
	// A ResponseWriter without deadlines, such as a test's recorder, returns an error here.
	_ = http.NewResponseController(w).SetWriteDeadline(begun.Add(api.ResponseTimeout))
	// Without a body, net/http reads ahead to detect that the client has gone, for as long as a poll waits.
	if r.ContentLength != 0 {
		_ = http.NewResponseController(a).SetReadDeadline(begun.Add(bodyReadTimeout))
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(p)
			}
			a.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			if a.status == 0 {
				api.WriteError(a, a.err)
			}
		}
		s.recordRequest(a, r, id, time.Since(begun))
	}()
	if listener == api.Loopback && !hostAllowed(r) {
		api.WriteProblem(a, http.StatusMisdirectedRequest,
			"This server is for this machine only: ask for it as 127.0.0.1 or localhost.")
		return
	}
	s.mux.ServeHTTP(a, r)
}

func (s *Server) recordRequest(a *responseRecorder, r *http.Request, id string, took time.Duration) {
	route := r.Pattern
	if route == "" || route == "/" {
		route = "unmatched"
	}
	s.metrics.Requests.Observe(route, r.Method, a.status, took)
	level := zerolog.DebugLevel
	switch {
	case a.err != nil:
		level = zerolog.ErrorLevel
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.URL.Path != "/v1/reports":
		level = zerolog.InfoLevel
	}
	if e := s.log.WithLevel(level); e.Enabled() {
		if a.caller != nil && a.caller.Cell != "" {
			e.Str("cell", a.caller.Cell)
		}
		if a.caller != nil && a.caller.Name != "" {
			e.Str("by", a.caller.Name)
		}
		e.Err(a.err).Str("id", id).Str("method", r.Method).Str("path", sanitisePath(r.URL.Path)).
			Int("status", a.status).Int64("bytes", a.bytes).Dur("took", took).Msg("request")
	}
}

// maxLoggedPath bounds a logged path in bytes: an unauthenticated client can send one of 16 KiB.
const maxLoggedPath = 300

// sanitisePath shortens a path for the log and replaces characters that could control a terminal.
func sanitisePath(text string) string {
	if len(text) > maxLoggedPath {
		text = text[:maxLoggedPath] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// newRequestID returns 64 random bits in hex.
func newRequestID() string {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], rand.Uint64())
	var text [2 * len(raw)]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// validRequestID reports whether a client's request id may go into the log.
func validRequestID(id string) bool {
	return id != "" && len(id) <= 64 &&
		strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// hostAllowed prevents DNS rebinding: a web page of another site must not reach a loopback server under a name of its
// own. Hooks are exempt, as they are signed and may come through a tunnel.
func hostAllowed(r *http.Request) bool {
	if _, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); !ok || r.URL.Path == peopleapi.HookPath {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
