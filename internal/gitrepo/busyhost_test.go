package gitrepo

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

// R61: a host that asks to be left alone is not asked again before, neither by fetches nor by pushes.
func TestRetryAfterIsObeyed(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		after  string
		least  time.Duration
		most   time.Duration
	}{
		"429":               {http.StatusTooManyRequests, "120", 110 * time.Second, 120 * time.Second},
		"429 without":       {http.StatusTooManyRequests, "", busyWait - 10*time.Second, busyWait},
		"429 with nonsense": {http.StatusTooManyRequests, "soon", busyWait - 10*time.Second, busyWait},
		"503":               {http.StatusServiceUnavailable, "120", 110 * time.Second, 120 * time.Second},
		"403, as GitHub's":  {http.StatusForbidden, "60", 50 * time.Second, time.Minute},
		"a date": {http.StatusServiceUnavailable, time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat),
			9 * time.Minute, 10 * time.Minute},
		"a day": {http.StatusTooManyRequests, "86400", maxBusyWait - 10*time.Second, maxBusyWait},
	} {
		t.Run(name, func(t *testing.T) {
			asked := new(atomic.Int32)
			r := openAnsweringHost(t, c.status, map[string]string{"Retry-After": c.after}, asked, Web{})
			began := time.Now()
			_, err := r.Fetch(t.Context())
			busy := new(releases.BusyError)
			if !errors.As(err, &busy) || busy.Until.Before(began.Add(c.least)) ||
				busy.Until.After(time.Now().Add(c.most)) {
				t.Fatalf("got %v", err)
			}
			if _, err := r.Fetch(t.Context()); !errors.As(err, &busy) {
				t.Errorf("the second fetch: %v", err)
			}
			if _, err := r.Push(t.Context(), "", headDraft("1")); !errors.As(err, &busy) {
				t.Errorf("a push: %v", err)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
	asked := new(atomic.Int32)
	r := openAnsweringHost(t, http.StatusServiceUnavailable, nil, asked, Web{})
	for range 2 {
		if _, err := r.Fetch(t.Context()); err == nil || errors.As(err, new(*releases.BusyError)) {
			t.Errorf("503 without Retry-After: %v", err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// Each refusal of a host has words of its own, and a fetch is never a refused push.
func TestHostStatusesHaveWords(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		web    Web
		want   string
		no     bool // for want of credentials
	}{
		"no token":      {http.StatusUnauthorized, Web{}, "it wants a token", true},
		"token expired": {http.StatusUnauthorized, Web{Password: "old"}, "expired", true},
		"may not read":  {http.StatusForbidden, Web{Password: "other"}, "may not read", true},
		"gone":          {http.StatusNotFound, Web{Password: "x"}, "renamed", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := openAnsweringHost(t, c.status, nil, new(atomic.Int32), c.web)
			_, err := r.Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "push") ||
				errors.As(err, new(*releases.CredentialsError)) != c.no ||
				c.no && !strings.Contains(err.Error(), "SLUICE_GIT_TOKEN") || strings.Contains(err.Error(), "old") {
				t.Errorf("got %v", err)
			}
			_, err = r.Push(t.Context(), "", headDraft("1"))
			refused := errors.As(err, new(*releases.RefusedError))
			if want := c.status == http.StatusForbidden; err == nil || refused != want {
				t.Errorf("a push: %v", err)
			}
		})
	}
}

// openAnsweringHost opens a repository whose host has one answer.
func openAnsweringHost(t *testing.T, status int, header map[string]string, asked *atomic.Int32, web Web) *Repo {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		for name, value := range header {
			if value != "" {
				w.Header().Set(name, value)
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return openRepo(t, server.URL+"/r.git", func(o *Options) { o.Web = web })
}
