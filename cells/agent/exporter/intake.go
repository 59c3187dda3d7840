package exporter

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// Limits of what comes in.
const (
	maxRequest    = 4 << 20 // bytes, unpacked
	maxScrape     = 8 << 20 // bytes
	scrapeTimeout = 10 * time.Second
	maxReading    = 3 // requests that are read at once; senders try others again
	readTimeout   = 5 * time.Second
)

// Handler takes what programs send: OTLP over HTTP, as protobuf. It is for programs of this cell only.
func (e *Exporter) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/metrics", e.serve(e.takeMetrics))
	mux.HandleFunc("POST /v1/logs", e.serve(e.takeEvents))
	return mux
}

func (e *Exporter) takeMetrics(body []byte, now time.Time) error {
	return e.aggregate.AddOTLPMetrics(body, now)
}
func (e *Exporter) takeEvents(body []byte, now time.Time) error {
	return e.aggregate.AddOTLPEvents(body, now)
}

func (e *Exporter) serve(take func([]byte, time.Time) error) http.HandlerFunc {
	const protobuf = "application/x-protobuf"
	return func(w http.ResponseWriter, r *http.Request) {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != protobuf {
			http.Error(w, "send OTLP as protobuf, with Content-Type: "+protobuf, http.StatusUnsupportedMediaType)
			return
		}
		select {
		case e.reading <- struct{}{}:
			defer func() { <-e.reading }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "many programs send at once: send it again", http.StatusTooManyRequests)
			return
		}
		// who sends slowly must not keep others out; a recorder, as in tests, has no deadlines
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
		body, status, err := readRequest(r)
		if err == nil {
			err = e.takeLocked(take, body)
			status = http.StatusBadRequest
		}
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", protobuf) // an empty message: all was taken
	}
}

func (e *Exporter) takeLocked(take func([]byte, time.Time) error, body []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return take(body, time.Now())
}

func readRequest(r *http.Request) (body []byte, status int, err error) {
	in := io.Reader(r.Body)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, http.StatusBadRequest, fmt.Errorf("the body is no gzip: %w", err)
		}
		in = unpacked
	default:
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("the encoding %.50q is not known: gzip is, or none",
			encoding)
	}
	body, err = io.ReadAll(io.LimitReader(in, maxRequest+1))
	switch {
	case err != nil:
		return nil, http.StatusBadRequest, fmt.Errorf("the body arrived damaged: %w", err)
	case len(body) > maxRequest:
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes: send less at once",
			maxRequest)
	}
	return body, 0, nil
}

// CheckTarget checks the address of a target to scrape, which must be on this machine.
func CheckTarget(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%.200q can't be scraped: it must be such as http://127.0.0.1:9100/metrics", address)
	}
	if !identity.IsLocalHost(u.Hostname()) {
		return fmt.Errorf("%.200q can't be scraped: it is not on this machine", address)
	}
	return nil
}

// scrape asks all targets once a minute until ctx ends.
func (e *Exporter) scrape(ctx context.Context) {
	client := &http.Client{Timeout: scrapeTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 1,
		DialContext: (&net.Dialer{Timeout: scrapeTimeout, Control: identity.DialLocalOnly}).DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	defer all.Wait()
	for _, target := range e.options.Scrape {
		all.Go(func() {
			var before time.Time
			failed := ""
			for ctx.Err() == nil {
				now := time.Now()
				err := e.scrapeOnce(ctx, client, target, before, now)
				before = now
				switch {
				case err == nil:
					failed = ""
				case ctx.Err() == nil:
					before = time.Time{}
					if err.Error() != failed {
						failed = err.Error()
						e.options.Log.Warn().Err(err).Str("target", target).
							Msg("a target can't be scraped; the agent tries again")
					}
				}
				_ = backoff.Sleep(ctx, e.options.Minute)
			}
		})
	}
}

func (e *Exporter) scrapeOnce(ctx context.Context, client *http.Client, target string, before, now time.Time) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the target answered %s", response.Status)
	}
	// All of it is read before the lock: a slow target holds up nobody.
	text, err := io.ReadAll(io.LimitReader(response.Body, maxScrape+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxScrape:
		return fmt.Errorf("the target answered more than %d bytes", maxScrape)
	}
	source := fnv.New64a()
	_, _ = source.Write([]byte(target))
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.aggregate.AddPrometheus(source.Sum64(), bytes.NewReader(text), before, now)
}
