package peopleapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// Killer kills flags.
type Killer interface {
	// Kill is durable when it returns. Cells are notified at once, even if a repository is broken (R43).
	Kill(ctx context.Context, o repository.Override) error
}

// killWait bounds how long the response to a kill waits for cells to be notified.
const killWait = 2 * time.Second

// NewKill is the request to kill a flag.
type NewKill struct {
	Reason string    `json:"reason" minLength:"1" maxLength:"500" doc:"one line that explains the kill"`
	Until  time.Time `json:"until,omitzero" doc:"when somebody should look at it again: nothing ends by itself"`
}

// Killed is the response to a kill.
type Killed struct {
	view.FlagKill
	Told      int    `json:"told" doc:"cells that are notified, when they are connected"`
	Connected int    `json:"connected" doc:"notified cells that are connected"`
	Warning   string `json:"warning,omitempty" doc:"what may be wrong with the kill, and the next step"`
}

type killInput struct {
	Key  string `path:"key" doc:"a flag"`
	Body NewKill
}

type killOutput struct {
	Status int
	Body   Killed
}

// killFlag stores a kill and notifies cells. It does not read the flags repository first, which may be broken.
func (g *flagHandlers) killFlag(ctx context.Context, in *killInput) (*killOutput, error) {
	if g.killer == nil {
		return nil, huma.Error404NotFound(noFlagsMessage)
	}
	if err := flags.CheckKey(in.Key); err != nil {
		return nil, huma.Error422UnprocessableEntity("This is not a flag's key: "+err.Error()+".",
			&huma.ErrorDetail{Location: "path.key", Message: err.Error()})
	}
	reason := strings.Join(strings.Fields(in.Body.Reason), " ")
	if reason == "" {
		return nil, huma.Error422UnprocessableEntity("A reason is required.",
			&huma.ErrorDetail{Location: "body.reason", Message: "a line of text"})
	}
	o := repository.Override{Kind: repository.Kill, Flag: in.Key, Reason: reason, By: api.CallerOf(ctx).Name,
		Until: in.Body.Until.UTC().Truncate(time.Second)}
	if err := g.auditor.record(ctx, "kill the flag "+in.Key+": "+reason); err != nil {
		return nil, err
	}
	if err := g.killer.Kill(ctx, o); err != nil {
		return nil, g.auditor.explainError(err, "kill the flag "+in.Key)
	}
	return g.awaitTold(ctx, o), nil
}

// awaitTold responds once a view has the kill, or after killWait.
func (g *flagHandlers) awaitTold(ctx context.Context, o repository.Override) *killOutput {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	for {
		changed := g.views.Changed()
		v := g.views.View()
		if v != nil && v.Flags != nil {
			if out, ok := killStatus(v, o); ok {
				return out
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			out := &killOutput{Status: http.StatusAccepted,
				Body: Killed{FlagKill: view.FlagKill{Flag: o.Flag, Reason: o.Reason, By: o.By, Until: o.Until}}}
			out.Body.Warning = "The kill is stored, and cells will be notified as soon as possible: see /v1/flags/" +
				o.Flag + ", and the log of sluice serve."
			return out
		}
	}
}

// killStatus returns the state of a kill in a view. ok is false if the view is older than the kill.
func killStatus(v *view.View, o repository.Override) (out *killOutput, ok bool) {
	b := view.NewFlagIndex(v)
	kills := b.Kills(o.Flag)
	i := slices.IndexFunc(kills,
		func(k view.FlagKill) bool { return k.Reason == o.Reason && k.By == o.By && k.Until.Equal(o.Until) })
	if i < 0 {
		return nil, false
	}
	out = &killOutput{Status: http.StatusOK, Body: Killed{FlagKill: kills[i]}}
	for name, told := range v.Flags.ByCell {
		if _, there := b.Killed(told)[o.Flag]; there {
			out.Body.Told++
			if !b.Offline(name) {
				out.Body.Connected++
			}
		}
	}
	switch {
	case v.Flags.Tip == nil:
		out.Body.Warning = "The flags repository has not been read, so the flag may not exist: check the key."
	case b.Definition(o.Flag) == nil:
		out.Body.Warning = "The flags repository has no such flag: if the key is misspelt, kill the right flag. " +
			"This kill lasts until its file is removed."
	}
	return out, true
}
