package controlplane

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// What people and their tools ask: typed operations, described and checked by huma.

type planOutput struct{ Body plan.Plan }

func (s *Server) plan(context.Context, *struct{}) (*planOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	out := &planOutput{Body: v.Plan}
	if out.Body.Actions == nil {
		out.Body.Actions = []plan.Action{}
	}
	return out, nil
}

type statusInput struct {
	Channel string `query:"channel" doc:"only this channel and its cells"`
	After   string `query:"after" doc:"cells with names after this one: what next= said"`
	Limit   int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"cells on a page"`
}

type statusOutput struct{ Body Status }

func (s *Server) status(_ context.Context, in *statusInput) (*statusOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	if in.Channel != "" && v.Desired.Channels[in.Channel] == nil {
		return nil, huma.Error404NotFound("The release repository has no such channel: add channels/NAME/channel.yaml, or check the name.")
	}
	return &statusOutput{Body: StatusOf(v, StatusPage{Channel: in.Channel, After: in.After, Limit: in.Limit})}, nil
}

type whyInput struct {
	Name string `path:"name" doc:"a cell, or else a channel"`
}

// Why is the answer to /v1/why/{name}.
type Why struct {
	Name  string   `json:"name"`
	Lines []string `json:"lines" doc:"what it runs, what it should run, and every verdict between, for people"`
}

type whyOutput struct{ Body Why }

func (s *Server) why(_ context.Context, in *whyInput) (*whyOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	lines, ok := view.Why(v, in.Name)
	if !ok {
		return nil, huma.Error404NotFound("The release repository has neither a cell nor a channel of that name: /v1/status lists them.")
	}
	return &whyOutput{Body: Why{Name: in.Name, Lines: lines}}, nil
}

type eventsInput struct {
	Since int64 `query:"since" minimum:"-1" default:"-1" doc:"decisions after this cursor; without it, the last ones"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// Events is a part of the decisions, in the order in which they were found in git.
type Events struct {
	Decisions []plan.Decided `json:"decisions"`
	Next      int64          `json:"next" doc:"give it as since= for those that follow"`
}

type eventsOutput struct{ Body Events }

func (s *Server) events(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	found, next, err := s.opts.Journal.Decisions(ctx, in.Since, in.Limit)
	if err != nil {
		status, detail, unexpected := explain(err)
		if unexpected {
			s.log.Error().Err(err).Msg("read decisions")
		}
		return nil, huma.NewError(status, detail)
	}
	if found == nil {
		found = []plan.Decided{}
	}
	return &eventsOutput{Body: Events{Decisions: found, Next: next}}, nil
}

// shown is the newest view, or what people are told while there is none.
func (s *Server) shown() (*view.View, error) {
	v := s.opts.Views.View()
	if v == nil {
		return nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(notRead), http.Header{"Retry-After": {"2"}})
	}
	return v, nil
}

// unreachable watches, from one question for readiness to the next, for how long the release repository could not be read.
type unreachable struct {
	mu    sync.Mutex
	since time.Time // zero: it could be
}

func (u *unreachable) forLonger(err error, than time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case err == nil:
		u.since = time.Time{}
	case u.since.IsZero():
		u.since = time.Now()
	default:
		return time.Since(u.since) > than
	}
	return false
}

// readyz answers 503 with every reason why cells had better be served by another replica.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	var reasons []*huma.ErrorDetail
	here := callerOf(r.Context()).door
	add := func(where, what string) {
		if here != doorLoopback && here != doorSocket {
			what = "does not work; the log of sluice serve says why" // anyone may ask, and errors name addresses and files
		}
		reasons = append(reasons, &huma.ErrorDetail{Location: where, Message: what})
	}
	if s.opts.Views.View() == nil {
		add("view", notRead)
	}
	if s.opts.Reachable != nil {
		if err := s.opts.Reachable(); s.repo.forLonger(err, s.opts.Unreachable) {
			add("repository", "could not be read for more than "+s.opts.Unreachable.String()+": "+err.Error())
		}
	}
	if s.opts.Store != nil {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if err := s.opts.Store(ctx); err != nil {
			_, detail, _ := explain(err)
			add("store", detail)
			noteError(w, err)
		}
	}
	select {
	case <-s.drain:
		add("server", "is stopping")
	default:
	}
	if len(reasons) > 0 {
		problem(w, http.StatusServiceUnavailable, "Not ready.", reasons...)
		return
	}
	writeJSON(w, http.StatusOK, health{Status: "ready"})
}

type health struct {
	Status string `json:"status"`
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, health{Status: "alive"})
}
