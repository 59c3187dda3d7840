package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cells/maintenance"
)

// Limits of requests.
const (
	maxBody    = 4 << 10
	maxWaiting = 4096             // requests that wait for a change
	maxWait    = 60 * time.Second // of one request
	heartbeat  = 15 * time.Second
	writeTime  = 10 * time.Second // for one event
)

// Status is the answer to GET /v1/maintenance: the state, and what a user sees.
type Status struct {
	Phase    maintenance.Phase `json:"phase"`
	Refused  []string          `json:"refused,omitempty"`
	Begins   time.Time         `json:"begins,omitzero"`
	Until    time.Time         `json:"until,omitzero"`
	Seconds  int64             `json:"seconds,omitempty"` // until Until, rounded up
	Release  string            `json:"release,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	Text     string            `json:"text,omitempty"`
	Language string            `json:"language,omitempty"`
}

// problem is an error as RFC 9457 has it.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/maintenance", s.serveState)
	mux.HandleFunc("GET /v1/maintenance/events", s.serveEvents)
	mux.HandleFunc("POST /v1/operations", s.serveBegin)
	mux.HandleFunc("DELETE /v1/operations/{kind}/{key}", s.serveEnd)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, http.StatusNotFound, "Not found", "there is GET /v1/maintenance, GET /v1/maintenance/events, "+
			"POST /v1/operations, DELETE /v1/operations/KIND/KEY and GET /metrics")
	})
	return LocalOnly(mux)
}

// LocalOnly keeps web pages, and requests under a name that is not this machine's, from a handler.
func LocalOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || !isLocal(r) {
			writeProblem(w, http.StatusForbidden, "Forbidden",
				"web pages may not ask; ask from a program on this machine, as localhost or by the socket")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// isLocal reports whether a request came by a socket, or under a name of this machine: a page whose name leads here by
// its own DNS is none.
func isLocal(r *http.Request) bool {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && addr.Network() == "unix" {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return identity.IsLocalHost(strings.Trim(host, "[]"))
}

// status returns what a user with these languages sees.
func (n *snapshot) status(accept, kind string, now time.Time) Status {
	state := n.state.At(now)
	answer := Status{Phase: state.Phase, Refused: state.Refused, Begins: state.Begins, Until: state.Until,
		Release: state.Release, Reason: state.Reason}
	if state.Active(now) {
		answer.Language = n.language(accept)
		answer.Text = state.Text(answer.Language, kind, now)
		answer.Seconds = secondsUntil(state.Until, now)
	}
	return answer
}

// language returns the best of the texts' languages for a user. A header that can't be read asks for none.
func (n *snapshot) language(accept string) string {
	if accept == "" || len(n.languages) == 1 {
		return n.languages[0]
	}
	wanted, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return n.languages[0]
	}
	_, i, _ := n.matcher.Match(wanted...)
	return n.languages[i]
}

func secondsUntil(until, now time.Time) int64 {
	return max(1, int64(math.Ceil(until.Sub(now).Seconds())))
}

// serveState answers at once, or with ?wait=SECONDS once the state is another than If-None-Match names.
func (s *Server) serveState(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	wait, err := parseWait(query.Get("wait"))
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "Bad request", err.Error())
		return
	}
	if kind := query.Get("kind"); kind != "" && (maintenance.Operation{Kind: kind, Key: "any"}).Check() != "" {
		writeProblem(w, http.StatusBadRequest, "Bad request", "kind is no name of an operation's kind such as start")
		return
	}
	s.asked.Store(true)
	now := s.current.Load()
	if wait > 0 && matches(r, now.tag) && !s.awaitChange(w, r, now, wait) {
		return
	}
	now = s.current.Load()
	w.Header().Set("ETag", `"`+now.tag+`"`)
	w.Header().Set("Vary", "Accept-Language")
	if matches(r, now.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	e := now.encode(r.Header.Get("Accept-Language"), query.Get("kind"), time.Now())
	if e.seconds > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(e.seconds, 10))
	}
	writeBody(w, http.StatusOK, e.body)
}

// encoded is a status as JSON. Programs that wait are told all at once, and mostly the same.
type encoded struct {
	accept, kind string
	at           int64 // Unix seconds
	seconds      int64
	body         []byte
}

func (n *snapshot) encode(accept, kind string, now time.Time) *encoded {
	last := n.encoded.Load()
	if last != nil && last.accept == accept && last.kind == kind && last.at == now.Unix() &&
		n.state.Active(now) == (last.seconds > 0) {
		return last
	}
	answer := n.status(accept, kind, now)
	text, _ := json.Marshal(answer) // texts, numbers and times always encode
	e := &encoded{accept, kind, now.Unix(), answer.Seconds, append(text, '\n')}
	n.encoded.Store(e)
	return e
}

// parseWait parses how long a request may wait, in whole seconds.
func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > int(maxWait/time.Second) {
		return 0, fmt.Errorf("wait is a number of seconds from 0 to %d", maxWait/time.Second)
	}
	return time.Duration(n) * time.Second, nil
}

func matches(r *http.Request, tag string) bool {
	for _, one := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if strings.Trim(strings.TrimPrefix(strings.TrimSpace(one), "W/"), `"`) == tag {
			return true
		}
	}
	return false
}

// awaitChange waits until the state is another than known, or wait is over. It reports whether to answer: not if the
// caller is gone, or too many wait.
func (s *Server) awaitChange(w http.ResponseWriter, r *http.Request, known *snapshot, wait time.Duration) bool {
	if !s.enterWait(w) {
		return false
	}
	defer s.waiting.Add(-1)
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(wait + writeTime))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-known.changed:
	case <-timer.C:
	case <-r.Context().Done():
		return false
	}
	return true
}

func (s *Server) enterWait(w http.ResponseWriter) bool {
	if s.waiting.Add(1) <= maxWaiting {
		return true
	}
	s.waiting.Add(-1)
	w.Header().Set("Retry-After", "5")
	writeProblem(w, http.StatusTooManyRequests, "Too many requests", "too many programs wait already: ask again later")
	return false
}

// serveEvents sends the state, and again whenever it changes.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !s.enterWait(w) {
		return
	}
	defer s.waiting.Add(-1)
	s.asked.Store(true)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the stream ends with its caller
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTime))
		_, err := io.WriteString(w, text)
		return err == nil && control.Flush() == nil
	}
	known := ""
	for {
		now := s.current.Load()
		if now.tag != known {
			known = now.tag
			text, _ := json.Marshal(now.status(r.Header.Get("Accept-Language"), "", time.Now()))
			if !send("id: " + known + "\ndata: " + string(text) + "\n\n") {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-now.changed:
		case <-beat.C:
			if !send(":\n\n") {
				return
			}
		}
	}
}

// serveBegin grants an operation, renews its lease, or refuses it with the text for the user.
func (s *Server) serveBegin(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Kind    string `json:"kind"`
		Key     string `json:"key"`
		Running bool   `json:"running"`
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(text, &asked)
	}
	op := maintenance.Operation{Kind: asked.Kind, Key: asked.Key}
	why := op.Check()
	if err != nil {
		why = "the body is not the JSON {\"kind\": …, \"key\": …}"
		if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
			why = fmt.Sprintf("the body has more than %d bytes", maxBody)
		}
	}
	if why != "" {
		writeProblem(w, http.StatusBadRequest, "Bad request", why)
		return
	}
	switch s.begin(op, asked.Running) {
	case maintenance.Granted:
		w.Header().Set("Location", location(op))
		writeLease(w, http.StatusCreated, op)
	case maintenance.Renewed:
		writeLease(w, http.StatusOK, op)
	case maintenance.Full:
		w.Header().Set("Retry-After", "5")
		writeProblem(w, http.StatusServiceUnavailable, "Too many operations",
			fmt.Sprintf("%d operations are under way: end those that are through, and ask again",
				maintenance.MaxLeases))
	case maintenance.Unknown:
		w.Header().Set("Retry-After", "1")
		writeProblem(w, http.StatusServiceUnavailable, "Not known",
			"this node can't tell at present whether there is a maintenance: the cell's API server is not reached")
	case maintenance.Refused:
		s.writeRefusal(w, r, op)
	}
}

func location(op maintenance.Operation) string {
	return "/v1/operations/" + op.Kind + "/" + url.PathEscape(op.Key)
}

// writeLease answers to an operation that was granted, or renewed, with the seconds until its lease ends.
// A product waits for it before each operation, so it is written by hand.
func writeLease(w http.ResponseWriter, status int, op maintenance.Operation) {
	key, _ := json.Marshal(op.Key) // a text always encodes
	body := make([]byte, 0, 64+len(op.Kind)+len(key))
	body = append(append(body, `{"kind":"`...), op.Kind...)
	body = append(append(append(body, `","key":`...), key...), `,"seconds":`...)
	body = append(strconv.AppendInt(body, int64(maintenance.LeaseTime/time.Second), 10), "}\n"...)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// refusal is a problem with what a user sees as its detail.
type refusal struct {
	problem
	Maintenance Status `json:"maintenance"`
}

func (s *Server) writeRefusal(w http.ResponseWriter, r *http.Request, op maintenance.Operation) {
	status := s.current.Load().status(r.Header.Get("Accept-Language"), op.Kind, time.Now())
	if status.Text == "" {
		status.Text = "The maintenance has just ended. Please try again."
	}
	w.Header().Set("Retry-After", strconv.FormatInt(max(1, status.Seconds), 10))
	w.Header().Set("Content-Language", status.Language)
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, http.StatusLocked,
		refusal{problem{"Maintenance", http.StatusLocked, status.Text}, status})
}

// serveEnd ends an operation. An operation that is not under way is at its end already.
func (s *Server) serveEnd(w http.ResponseWriter, r *http.Request) {
	op := maintenance.Operation{Kind: r.PathValue("kind"), Key: r.PathValue("key")}
	if why := op.Check(); why != "" {
		writeProblem(w, http.StatusBadRequest, "Bad request", why)
		return
	}
	s.endOperation(op)
	w.WriteHeader(http.StatusNoContent)
}

// serveMetrics answers in Prometheus' text format.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	s.mu.Lock()
	refusedFor, entered, refused := s.refusedFor, s.entered, s.operations.RefusedByKind()
	ignored := s.operations.Busy(now).Ignored.Count
	if !s.since.IsZero() {
		refusedFor += now.Sub(s.since)
	}
	underWay := s.operations.UnderWay(now)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var b strings.Builder
	metric := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	metric("sluice_maintenance_seconds_total", "counter", "Time in which operations were refused.")
	fmt.Fprintf(&b, "sluice_maintenance_seconds_total %g\n", refusedFor.Seconds())
	metric("sluice_maintenances_total", "counter", "How often operations began to be refused.")
	fmt.Fprintf(&b, "sluice_maintenances_total %d\n", entered)
	metric("sluice_operations_under_way", "gauge", "Operations whose lease has not ended.")
	fmt.Fprintf(&b, "sluice_operations_under_way %d\n", underWay)
	metric("sluice_operations_refused_total", "counter", "Operations that were refused, by kind.")
	for _, kind := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(&b, "sluice_operations_refused_total{kind=%q} %d\n", kind, refused[kind])
	}
	metric("sluice_operations_ignoring_refusals", "gauge", "Operations of this maintenance, or the last, that ran "+
		"although they were refused.")
	fmt.Fprintf(&b, "sluice_operations_ignoring_refusals %d\n", ignored)
	_, _ = io.WriteString(w, b.String())
}

func writeProblem(w http.ResponseWriter, status int, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, status, problem{title, status, detail})
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	text, _ := json.Marshal(answer) // texts, numbers and times always encode
	writeBody(w, status, append(text, '\n'))
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
