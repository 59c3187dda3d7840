// Package ofrep serves the OpenFeature Remote Evaluation Protocol, OFREP 0.3, for one cell: flags one by one, all flags
// with an ETag, and a stream that says when to evaluate again. GET /flags.json serves the same flags to flagd's HTTP
// sync.
//
// The package decides nothing: flags.Source provides the flags, and nothing in a request except the ramp's key
// influences a gate (R36). Browsers see only flags marked for them (R45). Requests for names other than this machine's
// are refused, so that no page of another site can be pointed here. A handler is safe for concurrent use. Limits on a
// request's cost apply before its body is read.
package ofrep

import (
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

// Options of a handler. The zero Options suit a cell whose flags no page of another origin requests.
type Options struct {
	// origins whose pages may read answers, exactly as browsers send them: "https://console.example.com"
	Origins []string
}

// Paths besides the two of evaluation.
const (
	eventsPath = "/ofrep/v1/events"
	flagsPath  = "/flags.json"
)

type handler struct {
	source   flags.Source
	options  Options
	log      zerolog.Logger
	snapshot atomic.Pointer[snapshot] // of the last request; nil: none yet
	streams  atomic.Int32             // open streams
	buffers  sync.Pool                // of *buffer
}

// New returns a handler of all paths. It logs failures to answer, and nothing else.
func New(source flags.Source, log zerolog.Logger, options Options) http.Handler {
	h := &handler{source: source, options: options, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ofrep/v1/evaluate/flags/{key}", h.serveFlag)
	mux.HandleFunc("POST /ofrep/v1/evaluate/flags", h.serveFlags)
	mux.HandleFunc("GET "+eventsPath, h.serveEvents)
	mux.HandleFunc("GET "+flagsPath, h.serveDocument)
	mux.HandleFunc("/ofrep/", h.serveUnknown)
	return h.protect(mux)
}

// protect is the middleware that refuses requests for names other than this machine's, answers for origins, and answers
// after a panic.
func (h *handler) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r) {
			writeFailure(w, http.StatusForbidden, "", "",
				"this host name is refused: use localhost, 127.0.0.1, [::1] or a unix socket")
			return
		}
		if h.allowOrigin(w, r) {
			return
		}
		defer func() {
			problem := recover()
			if problem == nil {
				return
			}
			if problem == http.ErrAbortHandler {
				panic(problem)
			}
			h.log.Error().Interface("problem", problem).Str("path", r.URL.Path).
				Msg("a request for flags could not be answered")
			writeFailure(w, http.StatusInternalServerError, "", "", "internal error: see the agent's log")
		}()
		if isRedirected(r.URL.EscapedPath()) {
			h.serveUnknown(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isRedirected reports whether a ServeMux would redirect a path of OFREP's, to what may be another flag.
func isRedirected(asked string) bool {
	clean := path.Clean(asked)
	return asked == "/ofrep" || asked != clean &&
		(strings.HasPrefix(asked, "/ofrep/") || strings.HasPrefix(clean+"/", "/ofrep/"))
}

// allowOrigin lets pages of listed origins read the answer, and reports whether it answered the whole request, a
// preflight.
func (h *handler) allowOrigin(w http.ResponseWriter, r *http.Request) (done bool) {
	origin := r.Header.Get("Origin")
	if len(h.options.Origins) > 0 {
		w.Header().Add("Vary", "Origin")
	}
	listed := origin != "" && slices.Contains(h.options.Origins, origin)
	if listed {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "ETag, Retry-After")
	}
	if r.Method != http.MethodOptions {
		return false
	}
	if !listed {
		writeFailure(w, http.StatusForbidden, "", "", "pages of this origin may not ask: --flags-origin lists those that may")
		return true
	}
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-API-Key")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// parseRequest returns the flags in force, the instant and the context of a request about one flag or, with an empty
// key, all flags. ok is false after an error answer.
func (h *handler) parseRequest(
	w http.ResponseWriter, r *http.Request, key string,
) (v *snapshot, at int64, ctx flags.Context, ok bool) {
	if v, at = h.currentSnapshot(); v == nil {
		writeUnready(w)
		return nil, 0, nil, false
	}
	ctx, problem := h.readContext(r)
	if problem != nil {
		writeFailure(w, problem.status, key, problem.code, problem.text)
		return nil, 0, nil, false
	}
	return v, at, ctx, true
}

// serveUnknown answers for paths below /ofrep that are not OFREP's, and for other methods than OFREP's, in OFREP's
// form. A key with a slash that is not escaped is an unknown flag: no key has one.
func (h *handler) serveUnknown(w http.ResponseWriter, r *http.Request) {
	key, isFlag := strings.CutPrefix(r.URL.Path, "/ofrep/v1/evaluate/flags/")
	allowed := ""
	switch {
	case r.URL.Path == eventsPath:
		allowed = "GET, HEAD"
	case isFlag || r.URL.Path == "/ofrep/v1/evaluate/flags":
		allowed = "POST"
	}
	switch {
	case isFlag && r.Method == http.MethodPost:
		writeFailure(w, http.StatusNotFound, key, flags.ErrorFlagNotFound, "there is no such flag")
	case allowed != "":
		w.Header().Set("Allow", allowed)
		writeFailure(w, http.StatusMethodNotAllowed, "", "", "use "+allowed+" for this path")
	default:
		writeFailure(w, http.StatusNotFound, "", "", "there is no such path: flags are evaluated by POST "+
			"/ofrep/v1/evaluate/flags")
	}
}

// serveFlag answers for one flag.
func (h *handler) serveFlag(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	v, at, ctx, ok := h.parseRequest(w, r, key)
	if !ok {
		return
	}
	var result flags.Result
	if isBrowser(r) && !v.folded.Exposed(key) { // as for an unknown flag
		result = flags.Result{Error: flags.ErrorFlagNotFound, Message: "there is no such flag"}
	} else {
		result = v.folded.Evaluate(key, ctx, at)
	}
	if result.Error != "" {
		status, code := failureStatus(result.Error)
		writeFailure(w, status, key, code, result.Message)
		return
	}
	writeAnswer(w, http.StatusOK, v.flagAnswer(key, &result).json)
}

// serveFlags answers for all flags at one instant (R40).
func (h *handler) serveFlags(w http.ResponseWriter, r *http.Request) {
	v, at, ctx, ok := h.parseRequest(w, r, "")
	if !ok {
		return
	}
	buffer := h.getBuffer()
	defer h.putBuffer(buffer)
	body, hashes := append(buffer.bytes[:0], `{"flags":[`...), buffer.hashes[:0]
	v.folded.Each(ctx, at, isBrowser(r), func(key string, r *flags.Result) {
		if len(hashes) > 0 {
			body = append(body, ',')
		}
		var one *answer
		if r.Error != "" { // one bad flag does not fail the others
			_, code := failureStatus(r.Error)
			one = newAnswer(encodeFailure(key, code, r.Message))
		} else {
			one = v.flagAnswer(key, r)
		}
		body, hashes = append(body, one.json...), append(hashes, one.hash[:]...)
	})
	body = append(body, ']')
	if v.folded.Foreseen() { // else clients poll, since no event tells them of a rule that computes with the time
		body = append(body, `,"eventStreams":[{"type":"sse","endpoint":{"requestUri":"`+eventsPath+`"}}]`...)
		hashes = append(hashes, 's')
	}
	body = append(body, '}')
	buffer.bytes, buffer.hashes = body, hashes
	tag := etagOf(hashes)
	w.Header().Set("ETag", tag)
	if matchesETag(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeAnswer(w, http.StatusOK, body)
}

// serveDocument returns the flags for flagd's own evaluation. Browsers don't get rules.
func (h *handler) serveDocument(w http.ResponseWriter, r *http.Request) {
	v, at := h.currentSnapshot()
	switch {
	case v == nil:
		writeUnready(w)
		return
	case isBrowser(r):
		writeFailure(w, http.StatusForbidden, "", "", "rules are not shown to browsers")
		return
	}
	tag := `"` + v.folded.Revision() + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	// the instant for rules, for programs that evaluate them
	w.Header().Set("Sluice-Time", strconv.FormatInt(at, 10))
	if matchesETag(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeAnswer(w, http.StatusOK, v.folded.Document())
}
