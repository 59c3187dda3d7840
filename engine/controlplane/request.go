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
)

const (
	answerWithin = 30 * time.Second // ordinary answers: to be written
	readWithin   = 20 * time.Second // bodies: to be read, also by net/http before it answers; less, so that there is time to say so
)

// answer notes what was answered, for the log and the metrics.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
	err    error // for the log: what happened inside
	door   door
	begun  time.Time
	who    *caller // nil: it was not looked at
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// serve is around every request: its id, its limits, what becomes of a panic, one line in the log, the metrics.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, d door) {
	begun := time.Now()
	a := &answer{ResponseWriter: w, door: d, begun: begun}
	id := r.Header.Get("X-Request-Id")
	if !plainID(id) {
		id = newID()
	}
	a.Header().Set("X-Request-Id", id)
	// A server without deadlines (a test's recorder) goes on as it is.
	_ = http.NewResponseController(w).SetWriteDeadline(begun.Add(answerWithin))
	if r.ContentLength != 0 { // without a body the connection is watched for its end instead, for as long as a poll waits
		_ = http.NewResponseController(a).SetReadDeadline(begun.Add(readWithin))
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				panic(p)
			}
			a.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			if a.status == 0 {
				fail(a, a.err)
			}
		}
		s.finish(a, r, id, time.Since(begun))
	}()
	if d == doorLoopback && !hostAllowed(r) {
		problem(a, http.StatusMisdirectedRequest, "This server is for this machine only: ask for it as 127.0.0.1 or localhost.")
		return
	}
	s.mux.ServeHTTP(a, r)
}

func (s *Server) finish(a *answer, r *http.Request, id string, took time.Duration) {
	route := r.Pattern
	if route == "" || route == "/" {
		route = "unmatched"
	}
	s.metrics.add(route, r.Method, a.status, took)
	level := zerolog.DebugLevel
	switch {
	case a.err != nil:
		level = zerolog.ErrorLevel
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.URL.Path != "/v1/reports":
		level = zerolog.InfoLevel
	}
	if e := s.log.WithLevel(level); e.Enabled() {
		if a.who != nil && a.who.cell != "" {
			e.Str("cell", a.who.cell)
		}
		if a.who != nil && a.who.name != "" {
			e.Str("by", a.who.name)
		}
		e.Err(a.err).Str("id", id).Str("method", r.Method).Str("path", loggedPath(r.URL.Path)).
			Int("status", a.status).Int64("bytes", a.bytes).Dur("took", took).Msg("request")
	}
}

// maxLogged is how much of a path goes into the log, in bytes: who is nobody can send one of 16 KiB.
const maxLogged = 300

// loggedPath is a path as the log has it: whoever reads it at a terminal is not driven by what somebody asked for.
func loggedPath(text string) string {
	if len(text) > maxLogged {
		text = text[:maxLogged] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// noteError puts an error from inside on the request's line in the log.
func noteError(w http.ResponseWriter, err error) {
	if a, ok := w.(*answer); ok {
		a.err = err
	}
}

// noteStatus says what was answered past w, on a connection that was taken over.
func noteStatus(w http.ResponseWriter, status int) {
	if a, ok := w.(*answer); ok {
		a.status = status
	}
}

// failed answers with an error from inside, and notes the unexpected.
func failed(w http.ResponseWriter, err error) {
	if fail(w, err) {
		noteError(w, err)
	}
}

// deadlines bounds the writing of the answer. A server without them (a test's recorder) goes on as it is.
func deadlines(w http.ResponseWriter, answering time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answering))
}

// newID is a request's id: 64 bits of chance, in hex.
func newID() string {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], rand.Uint64())
	return hex.EncodeToString(raw[:])
}

// plainID tells whether a client's request id may go into the log.
func plainID(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// hostAllowed keeps other sites' pages in a browser on this machine from asking a loopback server under a name
// of their own (DNS rebinding). Hooks are signed, and may come through a tunnel.
func hostAllowed(r *http.Request) bool {
	if _, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); !ok || r.URL.Path == hookPath {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
