package provider

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/ofrep"
)

// respondEndlessly writes text until the reader hangs up.
func respondEndlessly(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	}
}

func respond(status int, header, value, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(header, value)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// Whatever an agent answers, the known flags stay in force, new flags are taken once the agent recovers, and no
// goroutine stays.
func TestAgentsThatMisbehave(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"f%d":{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a"},`, i)
		}
		return `{"flags":{` + strings.TrimSuffix(b.String(), ",") + `}}`
	}
	for name, test := range map[string]struct {
		path  string
		does  http.HandlerFunc
		stale bool // the provider becomes stale; otherwise it stays ready
	}{
		"endless flags":           {flagsPath, respondEndlessly(strings.Repeat(" ", 64<<10)), true},
		"garbage":                 {flagsPath, respond(200, "ETag", `"x"`, `{"flags":{"mail":`), true},
		"no flags":                {flagsPath, respond(200, "ETag", `"x"`, `{}`), true},
		"a page":                  {flagsPath, respond(200, "Content-Type", "text/html", "<html>"), true},
		"one bad flag":            {flagsPath, respond(200, "ETag", `"x"`, `{"flags":{"mail":{"state":"ON"}}}`), true},
		"too many flags":          {flagsPath, respond(200, "ETag", `"x"`, many(flags.MaxFlags+1)), true},
		"elsewhere":               {flagsPath, respond(302, "Location", "http://127.0.0.1:1/", ""), true},
		"nothing":                 {flagsPath, hangUp, true},
		"a header without end":    {flagsPath, respond(200, "X", strings.Repeat("x", 1<<20), "{}"), true},
		"stream without newlines": {eventsPath, respondEndlessly(strings.Repeat("data:", 100)), false},
		"stream elsewhere":        {eventsPath, respond(301, "Location", "/flags.json", ""), true},
		"stream of another kind":  {eventsPath, respond(200, "Content-Type", "text/html", "data:\n\n"), false},
		"no more streams":         {eventsPath, respond(429, "Retry-After", "30", "{}"), false},
		"no stream":               {eventsPath, hangUp, true},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			source := newTestSource()
			source.setFlags(foldBundle(t, flags.Orders{}))
			well := ofrep.New(source, zerolog.Nop(), ofrep.Options{})
			var ill atomic.Bool
			var asked atomic.Int64 // requests while the agent misbehaved
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ill.Load() && r.URL.Path == test.path {
					asked.Add(1)
					test.does(w, r)
					return
				}
				well.ServeHTTP(w, r)
			}))
			p, err := Dial(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			stale := watchStale(p)
			if err := p.Init(openfeature.EvaluationContext{}); err != nil {
				t.Fatal(err)
			}
			ill.Store(true)
			server.CloseClientConnections()
			eventually(t, "asked again", func() bool { return asked.Load() > 1 || asked.Load() > 0 && !test.stale })
			if test.stale {
				eventually(t, "stale", stale.Load)
			}
			if d := p.StringEvaluation(t.Context(), "color", "", nil); d.Value != "#f00" {
				t.Errorf("color is %+v", d)
			}
			ill.Store(false)
			server.CloseClientConnections()
			source.setFlags(foldBundle(t, flags.Orders{Killed: []flags.KilledFlag{{Flag: "color"}}}))
			eventually(t, "told of the kill", func() bool {
				return p.StringEvaluation(t.Context(), "color", "", nil).FlagMetadata["killed"] == true
			})
			p.Shutdown()
			server.Close()
			close(p.events)
			eventually(t, "all that was begun is over", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

// watchStale consumes a provider's events, and reports whether the provider is stale.
func watchStale(p *Provider) *atomic.Bool {
	var stale atomic.Bool
	go func() {
		for e := range p.events {
			stale.Store(e.EventType == openfeature.ProviderStale)
		}
	}()
	return &stale
}

// An agent whose first answer is "not modified" has provided no flags.
func TestAnAgentThatGaveNothing(t *testing.T) {
	for name, does := range map[string]http.HandlerFunc{
		"not modified": respond(304, "ETag", `"x"`, ""),
		"not there":    respond(404, "X", "x", ""),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == flagsPath {
					does(w, r)
				}
			}))
			defer server.Close()
			p, err := Dial(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() { failed <- p.Init(openfeature.EvaluationContext{}) }()
			if e := <-p.events; e.EventType != openfeature.ProviderError {
				t.Errorf("it says %+v", e)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := p.ShutdownWithContext(ctx); err != nil {
				t.Error(err)
			}
			if err := <-failed; err == nil {
				t.Error("it is ready")
			}
		})
	}
}
