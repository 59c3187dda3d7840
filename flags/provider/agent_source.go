package provider

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sluice-cd/sluice/flags"
)

// Paths of the agent, see package ofrep.
const (
	flagsPath  = "/flags.json"
	eventsPath = "/ofrep/v1/events"
)

const (
	requestTimeout = 10 * time.Second
	streamTimeout  = 40 * time.Second // ends a stream without a heartbeat; the agent sends one every 15 s
	retryFirst     = 100 * time.Millisecond
	retryCap       = 5 * time.Second
	maxLine        = 4 << 10         // bytes of a line of a stream
	maxInstant     = 253_402_300_799 // 9999-12-31T23:59:59Z
)

// Dial returns a provider that follows the agent of this cell, at http://127.0.0.1:PORT or unix:///PATH, as in the
// agent's --flags-listen. It sends no request before Init.
func Dial(address string) (*Provider, error) {
	a := &agentSource{changed: make(chan struct{})}
	dialer := &net.Dialer{Timeout: requestTimeout}
	dial := dialer.DialContext
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		if !path.IsAbs(socket) {
			return nil, fmt.Errorf("follow flags at %q: a socket is written unix:///PATH", address)
		}
		a.base = "http://localhost"
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	} else {
		at, err := url.Parse(address)
		if err != nil || at.Scheme != "http" || at.Host == "" || strings.Trim(at.Path, "/") != "" {
			return nil, fmt.Errorf("follow flags at %q: an agent serves them at http://127.0.0.1:PORT or unix:///PATH",
				address)
		}
		a.base = "http://" + at.Host
	}
	a.http = &http.Client{
		Transport: &http.Transport{
			DialContext: dial, ResponseHeaderTimeout: requestTimeout, MaxResponseHeaderBytes: 16 << 10, MaxIdleConns: 2,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p := New(a)
	p.follow = a.follow
	return p, nil
}

// agentSource is a cell's agent as a flags.Source.
type agentSource struct {
	base string
	http *http.Client

	etag string // of folded; used by follow only

	mu      sync.Mutex // guards the fields below
	folded  *flags.Folded
	at      int64     // the agent's time at readAt
	readAt  time.Time // by this machine's monotonic clock
	changed chan struct{}
}

// Current returns the agent's last flags and the agent's time. Steps of this machine's clock don't affect that time
// (R40).
func (a *agentSource) Current() (*flags.Folded, int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.folded, a.at + int64(time.Since(a.readAt)/time.Second)
}

// Changed returns a channel that is closed when the agent's flags change.
func (a *agentSource) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// follow keeps the flags up to date until ctx ends.
func (a *agentSource) follow(ctx context.Context, p *Provider) {
	defer a.http.CloseIdleConnections()
	stale, failures := false, 0
	for ctx.Err() == nil {
		err := a.followStream(ctx, func() { // the agent answers
			if stale {
				p.emit(openfeature.ProviderReady, "the agent answers again")
			}
			stale, failures = false, 0
		})
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		if f, _ := a.Current(); !stale && (failures > 0 || f == nil) { // a single ended stream is normal
			stale = f != nil
			kind := openfeature.ProviderStale
			if f == nil {
				kind = openfeature.ProviderError
			}
			p.emit(kind, err.Error())
		}
		wait := min(retryFirst<<min(failures, 10), retryCap)
		failures++
		select {
		case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // jitter
		case <-ctx.Done():
		}
	}
}

// followStream follows one stream of changes to its end or, if the agent has no streams left, fetches the flags once
// and waits.
func (a *agentSource) followStream(ctx context.Context, answers func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(streamTimeout, func() { cancel(errors.New("the agent is silent")) })
	defer watch.Stop()
	response, err := a.get(ctx, eventsPath, "")
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	crowded := response.StatusCode == http.StatusTooManyRequests
	if response.StatusCode != http.StatusOK && !crowded {
		return fmt.Errorf("the agent answers %s", response.Status)
	}
	if err := a.refetch(ctx); err != nil { // after the stream opened, so that no change is missed
		return err
	}
	answers()
	if crowded {
		select {
		case <-time.After(retryCap):
		case <-ctx.Done():
		}
		return nil
	}
	lines := bufio.NewReaderSize(response.Body, maxLine)
	for { // a heartbeat corrects the time: this process's clock does not count while the machine is suspended
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return errors.Join(context.Cause(ctx), fmt.Errorf("the agent's stream of changes ended: %w", err))
		}
		watch.Reset(streamTimeout)
		if !bytes.HasPrefix(line, []byte("data:")) && !bytes.HasPrefix(line, []byte(":")) {
			continue
		}
		if err := a.refetch(ctx); err != nil {
			return err
		}
	}
}

// refetch fetches the agent's time, and the flags unless they are unchanged.
func (a *agentSource) refetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := a.get(ctx, flagsPath, a.etag)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	switch response.StatusCode {
	case http.StatusNotModified:
		if a.etag == "" {
			return errors.New("the agent says that its flags are unchanged, but sent none before")
		}
		if at, ok := agentTime(response); ok {
			a.correctTime(at)
		}
		return nil
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return errors.New("the agent has no flags yet")
	default:
		return fmt.Errorf("the agent answers %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, flags.MaxBundle+1))
	if err != nil {
		return fmt.Errorf("read the agent's flags: %w", err)
	}
	now := time.Now()
	at, ok := agentTime(response)
	if !ok {
		at = now.Unix()
	}
	folded, err := flags.ParseDocument(data, at)
	if err != nil {
		return err
	}
	a.etag = response.Header.Get("ETag")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.readAt = at, now
	a.folded = folded
	a.publish()
	return nil
}

// agentTime returns the agent's time in a response; ok is false if it has none.
func agentTime(response *http.Response) (at int64, ok bool) {
	at, err := strconv.ParseInt(response.Header.Get("Sluice-Time"), 10, 64)
	return at, err == nil && at >= 0 && at <= maxInstant
}

// correctTime takes the agent's time. If it went back, by more than requests take, rules that compute with the time may
// come to something else.
func (a *agentSource) correctTime(at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	wentBack := at+1 < a.at+int64(now.Sub(a.readAt)/time.Second)
	a.at, a.readAt = at, now
	if wentBack {
		a.publish()
	}
}

// publish says that something changed. It needs mu.
func (a *agentSource) publish() {
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agentSource) get(ctx context.Context, path, etag string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	response, err := a.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("request flags from the cell's agent: %w", err)
	}
	return response, nil
}
