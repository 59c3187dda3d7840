package consoleapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/engine/whatif"
)

// A trial takes a processor for itself, so that there are few at once, each for a short time.
const (
	maxTrials = 1
	trialTime = 20 * time.Second
)

func (a *API) trialRoute(name *huma.Param) api.Route {
	return api.Route{Method: http.MethodPost, Path: "/ui/whatif/{name}", Audience: api.Viewer, Handler: a.serveTrial,
		Operation: huma.Operation{OperationID: "consoleTry", Tags: []string{"console"},
			Summary:    "Simulates a channel with another policy, and writes nothing",
			Parameters: []*huma.Param{name},
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"application/x-www-form-urlencoded": {Schema: &huma.Schema{Type: huma.TypeObject}}}},
			Responses: map[string]*huma.Response{"200": api.Response("The page with the answer", "text/html",
				api.TextSchema())},
			Errors: []int{400, 404, 413, 503}}}
}

// newTrial returns an empty trial: the channel's policy as it is, and a scenario to begin with.
func (r *reader) newTrial(v *view.View, channel string) (*console.Trial, error) {
	t := &console.Trial{Days: console.DefaultTrialDays,
		Scenario: string(simulate.Suggest(v.Desired, console.DefaultTrialDays*24*time.Hour))}
	files, err := r.repository.FS(v.Desired.Commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", v.Desired.Commit, err)
	}
	text, err := fs.ReadFile(files, whatif.PolicyFile(channel))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the policy of %s: %w", channel, err)
	}
	if len(text) <= console.MaxTrialText {
		t.Policy = string(text)
	}
	return t, nil
}

// serveTrial tries another policy. It stops when the page is left.
func (a *API) serveTrial(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	v := a.views.View()
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 6*console.MaxTrialText) // a form may write a byte as three
	if err := r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			api.WriteProblem(w, http.StatusRequestEntityTooLarge, "The texts are too large: leave some out.")
			return
		}
		api.WriteProblem(w, http.StatusBadRequest, "The form arrived incomplete: send it again.")
		return
	}
	address := console.Address{Kind: console.WhatIf, Name: r.PathValue("name")}
	t, status := trialOf(r), http.StatusNotFound
	if v.Desired.Channels[address.Name] != nil {
		var err error
		if status, err = a.try(r.Context(), v, address.Name, t); err != nil {
			api.NoteError(w, err)
		}
	}
	if r.Context().Err() != nil {
		return // the page was left
	}
	api.SetWriteTimeout(w, api.ResponseTimeout)
	w.Header().Set("Cache-Control", "private, no-store")
	page := console.Render(a.pages.newModel(v), address, console.Facts{Trial: t})
	writeCached(w, r, status, "text/html; charset=utf-8", newBody(page.Document()))
}

// trialOf reads the form.
func trialOf(r *http.Request) *console.Trial {
	text := func(field string) string { return strings.ReplaceAll(r.PostForm.Get(field), "\r\n", "\n") }
	t := &console.Trial{Policy: text(console.PolicyField), Scenario: text(console.ScenarioField),
		Days: console.DefaultTrialDays}
	n, err := strconv.Atoi(r.PostForm.Get(console.DaysField))
	if err == nil && slices.Contains(console.TrialDays(), n) {
		t.Days = n
	}
	return t
}

// try fills in the answer of a trial, or why there is none. It returns the status of the page, and what the log is to
// have.
func (a *API) try(ctx context.Context, v *view.View, channel string, t *console.Trial) (status int, unexpected error) {
	switch {
	case len(t.Policy) > console.MaxTrialText || len(t.Scenario) > console.MaxTrialText:
		t.Refused = fmt.Sprintf("A text has more than %d bytes: leave some out.", console.MaxTrialText)
		return http.StatusRequestEntityTooLarge, nil
	case a.source.History == nil:
		t.Refused = "This control plane tries no policies: use sluice simulate."
		return http.StatusServiceUnavailable, nil
	case !a.trials.Acquire():
		t.Refused = "Another policy is being tried: compare again in a moment."
		return http.StatusServiceUnavailable, nil
	}
	defer a.trials.Release()
	ctx, done := context.WithTimeout(ctx, trialTime)
	defer done()
	q := whatif.Question{Channel: channel, Policy: []byte(t.Policy), Scenario: []byte(t.Scenario),
		From: v.Plan.Now.Truncate(time.Hour), For: time.Duration(t.Days) * 24 * time.Hour}
	answer, err := whatif.Ask(ctx, a.source, q)
	switch {
	case err == nil:
		t.Answer = answer
		return http.StatusOK, nil
	case errors.Is(err, whatif.ErrTooLarge):
		t.Refused = "It was not simulated: " + err.Error() + ". Use sluice simulate, which has no limit."
		return http.StatusRequestEntityTooLarge, nil
	case errors.Is(err, whatif.ErrScenario):
		t.Refused = "It can't be simulated: " + err.Error() + "."
		return http.StatusBadRequest, nil
	case errors.Is(err, context.DeadlineExceeded):
		t.Refused = "The time was over before the first day was simulated: sluice simulate has no limit."
		return http.StatusServiceUnavailable, nil
	case errors.Is(err, plan.ErrStale):
		t.Refused = "A commit came in between: compare again."
		return http.StatusServiceUnavailable, nil
	}
	status, detail, is := api.DescribeError(err)
	if t.Refused = detail; is {
		unexpected = err
	}
	return status, unexpected
}
