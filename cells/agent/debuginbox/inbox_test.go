package debuginbox

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
)

// plane is the control plane's answer, which a test sets.
type plane struct {
	requests []debug.SignedRequest
	err      error
	asked    int
}

func (p *plane) fetch(context.Context) (debug.Requests, error) {
	p.asked++
	return debug.Requests{Requests: p.requests}, p.err
}

func ask(t *testing.T, change func(*debug.Request)) debug.SignedRequest {
	t.Helper()
	return debugtest.NewRequest(t, debugtest.NewSigner(t), change)
}

func states(i *Inbox) (all []string) {
	for _, d := range i.Report() {
		all = append(all, d.State)
	}
	return all
}

// D1, D4: what the cell takes from the control plane is checked, permits nothing, and follows what is listed.
func TestInbox(t *testing.T) {
	t.Parallel()
	p, dir, now := &plane{}, t.TempDir(), time.Now()
	var events []cells.Event
	o := Options{StateDir: dir, Cell: "acme", Fetch: p.fetch, Now: time.Now, Log: zerolog.Nop(),
		OnNews: func(e []cells.Event) { events = append(events, e...) }}
	i := New(o)
	i.turn(t.Context(), now)
	if p.asked != 0 {
		t.Error("it asked before the control plane named any request")
	}
	forged, expired := ask(t, nil), ask(t, func(r *debug.Request) {
		r.Made, r.Expires = now.Add(-2*time.Hour), now.Add(-time.Hour)
	})
	forged.Signature = ask(t, nil).Signature
	good := ask(t, nil)
	p.requests = []debug.SignedRequest{forged, expired, good, good,
		ask(t, func(r *debug.Request) { r.Cell = "initech" }),
		ask(t, func(r *debug.Request) { r.Made, r.Expires = now.Add(24*time.Hour), now.Add(25*time.Hour) })}
	i.SetDesired("1")
	if wait := i.turn(t.Context(), now); wait != restlessLook {
		t.Error(wait)
	}
	i.turn(t.Context(), now)
	if !slices.Equal(states(i), []string{"open"}) || p.asked != 1 || i.Report()[0].ID != good.ID() {
		t.Fatal(i.Report(), p.asked)
	}
	f := debugfolder.Of(dir)
	if _, err := f.Begin(good.ID(), moment(), now); err == nil {
		t.Fatal("the control plane alone began a session")
	}
	p.err = errors.New("down")
	i.SetDesired("2")
	i.turn(t.Context(), now)
	if !slices.Equal(states(i), []string{"open"}) || i.retryAt.IsZero() {
		t.Error("a control plane that is down takes requests back", i.Report())
	}
	p.err, p.requests = nil, append(p.requests, ask(t, nil))
	i.turn(t.Context(), now.Add(time.Hour/2))
	if !slices.Equal(states(i), []string{"open", "open"}) {
		t.Error(i.Report())
	}
	if err := f.Approve(good.ID(), debug.Permission{Made: moment(), For: time.Hour}, now); err != nil {
		t.Fatal(err)
	}
	i.SetDesired("") // all are taken back: what the owner answered stays
	i.turn(t.Context(), now)
	if !slices.Equal(states(i), []string{"permitted"}) {
		t.Error(i.Report())
	}
	if _, err := f.Begin(good.ID(), moment(), now); err != nil {
		t.Fatal(err)
	}
	i.turn(t.Context(), now)
	if d := i.Report()[0]; d.State != "live" || d.Until.Sub(now) < 59*time.Minute {
		t.Error(d)
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, []string{"debug open", "debug open", "debug permitted", "debug live"}) {
		t.Error(kinds)
	}
	again := New(o) // a process that was started anew tells nothing twice
	if len(events) != 4 || !slices.Equal(states(again), []string{"live"}) {
		t.Error(events, again.Report())
	}
}
