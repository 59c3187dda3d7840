package node

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/sluice-cd/sluice/cells/maintenance/server"
)

// Limits of what programs on one node may send to the agent. A sender that is refused for them tries again.
const (
	maxTelemetry    = 4 << 20 // bytes of a request, as it is sent
	telemetryRate   = 1 << 20 // bytes a second
	telemetryBurst  = 8 << 20 // bytes
	telemetryAtOnce = 2       // requests
	telemetryTime   = 20 * time.Second
	maxReply        = 64 << 10 // bytes of the agent's answer
)

// telemetry passes on to the agent what programs on this node send as OTLP. It looks at nothing in it: the agent
// decides what leaves the cell.
type telemetry struct {
	agent  http.RoundTripper
	bytes  *rate.Limiter
	atOnce chan struct{}
	log    zerolog.Logger
}

// localHandler serves programs on this node what is no matter of flags.
func (p *part) localHandler() http.Handler {
	if p.options.Agent == nil {
		return p.grants.server.Handler()
	}
	t := server.LocalOnly(&telemetry{p.options.Agent, rate.NewLimiter(telemetryRate, telemetryBurst),
		make(chan struct{}, telemetryAtOnce), p.options.Log})
	mux := http.NewServeMux()
	mux.Handle("POST /v1/metrics", t)
	mux.Handle("POST /v1/logs", t)
	mux.Handle("/", p.grants.server.Handler())
	return mux
}

func (t *telemetry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	length := r.ContentLength
	switch {
	case length < 0: // it is not said
		length = maxTelemetry
	case length > maxTelemetry:
		http.Error(w, "the body has more than 4 MiB: send less at once", http.StatusRequestEntityTooLarge)
		return
	}
	select {
	case t.atOnce <- struct{}{}:
		defer func() { <-t.atOnce }()
	default:
		refuseForNow(w, time.Second)
		return
	}
	takes := t.bytes.ReserveN(time.Now(), int(length))
	if wait := takes.Delay(); wait > 0 {
		takes.Cancel()
		refuseForNow(w, wait)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTelemetry))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		http.Error(w, "the body has more than 4 MiB: send less at once", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the body arrived incomplete: send it again", http.StatusBadRequest)
		return
	}
	if err := t.pass(w, r, body); err != nil {
		t.log.Warn().Err(err).Msg("what programs here measure can't be passed on: they try again")
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the cell's agent can't be reached: send it again", http.StatusServiceUnavailable)
	}
}

func refuseForNow(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	http.Error(w, "programs on this node send too much: send it again", http.StatusTooManyRequests)
}

// pass sends a request, whose body was read, to the agent, and its answer back. An error means that nothing was
// answered yet.
func (t *telemetry) pass(w http.ResponseWriter, r *http.Request, body []byte) error {
	to, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "https://agent"+r.URL.Path,
		bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, name := range []string{"Content-Type", "Content-Encoding"} { // no other header is the agent's business
		if v := r.Header.Get(name); v != "" {
			to.Header.Set(name, v)
		}
	}
	answer, err := roundTrip(t.agent, to)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	switch {
	case err != nil:
		return err
	case answer.StatusCode == http.StatusUnauthorized: // the way to the agent is about to change
		return errors.New("the agent does not know this node part's token")
	}
	for _, name := range []string{"Content-Type", "Retry-After"} {
		if v := answer.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text) // the program may be gone
	return nil
}

// roundTrip is t.RoundTrip with an end in time.
func roundTrip(t http.RoundTripper, r *http.Request) (*http.Response, error) {
	client := http.Client{Transport: t, Timeout: telemetryTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client.Do(r)
}
