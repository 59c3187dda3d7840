package peopleapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// flagHandlers serves flags, announcements and webhooks, and kills flags.
type flagHandlers struct {
	views   api.Views
	killer  Killer        // nil without a flags repository
	outbox  engine.Outbox // queue of webhooks; nil without one
	auditor auditor
}

// Flags is a page of flags, with the state of the flags repository.
type Flags struct {
	Commit   string            `json:"commit" doc:"the tip of the flags repository"`
	Height   int64             `json:"height" doc:"of the tip: its place in the first-parent history"`
	Fault    string            `json:"fault,omitempty" doc:"why the tip, or a file of it, is not in force, and what is in place of it"`
	Faults   []manifest.Fault  `json:"faults,omitempty" doc:"the first 100 of the tip"`
	Diverged *plan.Divergence  `json:"diverged,omitempty" doc:"set after a force-push, until it is acknowledged (R39)"`
	Kills    []view.FlagKill   `json:"kills" doc:"all kills, by flag"`
	Flags    []view.FlagStatus `json:"flags" doc:"a page of flags, by key"`
	Total    int               `json:"total" doc:"how many flags there are"`
	Next     string            `json:"next,omitempty" doc:"after= of the next page; omitted on the last page"`
}

// FlagDetail is a flag with its definition and its cells.
type FlagDetail struct {
	view.FlagStatus
	Definition json.RawMessage `json:"definition,omitempty" doc:"the tip's, as flagd reads it"`
	Kills      []view.FlagKill `json:"kills,omitempty"`
	Cells      []view.FlagCell `json:"cells" doc:"a page of cells, by name"`
	Total      int             `json:"total" doc:"how many cells there are, by the same filter"`
	Next       string          `json:"next,omitempty" doc:"after= of the next page; omitted on the last page"`
}

type flagsInput struct {
	After string `query:"after" doc:"flags with keys after this one: next of the previous page"`
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"flags on a page"`
}

type flagsOutput struct{ Body Flags }

func (g *flagHandlers) listFlags(_ context.Context, in *flagsInput) (*flagsOutput, error) {
	v, err := g.flagsView()
	if err != nil {
		return nil, err
	}
	f, b := v.Flags, view.NewFlagIndex(v)
	out := &flagsOutput{Body: Flags{
		Commit: f.Commit, Height: f.Height, Fault: f.Fault, Faults: f.Faults[:min(len(f.Faults), view.MaxFaults)],
		Diverged: f.Diverged, Kills: b.Kills(""),
		Flags: []view.FlagStatus{},
	}}
	keys := b.Keys()
	out.Body.Total = len(keys)
	keys, out.Body.Next = view.Paginate(keys, in.After, in.Limit)
	for _, key := range keys {
		out.Body.Flags = append(out.Body.Flags, b.Status(key))
	}
	return out, nil
}

type flagInput struct {
	Key     string `path:"key" doc:"a flag"`
	Channel string `query:"channel" doc:"only cells of this channel"`
	After   string `query:"after" doc:"cells with names after this one: next of the previous page"`
	Limit   int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"cells on a page"`
}

type flagOutput struct{ Body FlagDetail }

func (g *flagHandlers) showFlag(_ context.Context, in *flagInput) (*flagOutput, error) {
	v, err := g.flagsView()
	if err != nil {
		return nil, err
	}
	b := view.NewFlagIndex(v)
	if !b.Exists(in.Key) {
		return nil, huma.Error404NotFound("The flags repository has no such flag: /v1/flags lists them.")
	}
	out := &flagOutput{Body: FlagDetail{FlagStatus: b.Status(in.Key), Kills: b.Kills(in.Key), Cells: []view.FlagCell{}}}
	if d := b.Definition(in.Key); d != nil {
		out.Body.Definition = d.Encode()
	}
	names := slices.Sorted(maps.Keys(v.Desired.Cells))
	names = slices.DeleteFunc(names,
		func(name string) bool { return in.Channel != "" && v.Desired.Cells[name].Channel != in.Channel })
	out.Body.Total = len(names)
	names, out.Body.Next = view.Paginate(names, in.After, in.Limit)
	at := b.CellStates(in.Key)
	for _, name := range names {
		out.Body.Cells = append(out.Body.Cells, b.Cell(in.Key, name, at))
	}
	return out, nil
}

const noFlagsMessage = "This control plane has no flags repository: start it with sluice serve --flags-repo."

// flagsView returns the newest view that has flags, or the response while there is none.
func (g *flagHandlers) flagsView() (*view.View, error) {
	if g.killer == nil {
		return nil, huma.Error404NotFound(noFlagsMessage)
	}
	v, err := latestView(g.views)
	if err != nil {
		return nil, err
	}
	if v.Flags == nil {
		return nil, huma.ErrorWithHeaders(
			huma.Error503ServiceUnavailable(
				"The flags repository has not been read yet: ask again in a moment, or see the log of sluice serve."),
			http.Header{"Retry-After": {"2"}})
	}
	return v, nil
}

type announcementsInput struct {
	State string `query:"state" doc:"only announcements in this state"`
	After string `query:"after" doc:"announcements with IDs after this one: next of the previous page"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"announcements on a page"`
}

// Announcements is a page of announcements.
type Announcements struct {
	Announcements []announce.Status `json:"announcements" doc:"by ID, without their cells"`
	Total         int               `json:"total" doc:"how many there are, by the same filter"`
	Next          string            `json:"next,omitempty" doc:"after= of the next page; omitted on the last page"`
}

type announcementsOutput struct{ Body Announcements }

func (g *flagHandlers) listAnnouncements(_ context.Context, in *announcementsInput) (*announcementsOutput, error) {
	v, err := g.flagsView()
	if err != nil {
		return nil, err
	}
	var ids []string
	byID := map[string]announce.Status{}
	for _, a := range v.Flags.Plan.Announcements {
		if in.State == "" || string(a.State) == in.State {
			ids = append(ids, a.Announcement.ID)
			byID[a.Announcement.ID] = a
		}
	}
	slices.Sort(ids)
	out := &announcementsOutput{Body: Announcements{Announcements: []announce.Status{}, Total: len(ids)}}
	ids, out.Body.Next = view.Paginate(ids, in.After, in.Limit)
	for _, id := range ids {
		out.Body.Announcements = append(out.Body.Announcements, byID[id])
	}
	return out, nil
}

type announcementInput struct {
	ID string `path:"id" doc:"an announcement"`
}

type announcementOutput struct{ Body announce.Status }

func (g *flagHandlers) showAnnouncement(_ context.Context, in *announcementInput) (*announcementOutput, error) {
	v, err := g.flagsView()
	if err != nil {
		return nil, err
	}
	st, ok := v.Flags.Plan.Detail(in.ID)
	if !ok {
		return nil, huma.Error404NotFound(
			"The flags repository has no such announcement: /v1/announcements lists them.")
	}
	return &announcementOutput{Body: st}, nil
}

type webhooksOutput struct {
	Body struct {
		Webhooks []outbox.State `json:"webhooks" doc:"of the flags repository's settings"`
	}
}

func (g *flagHandlers) listWebhooks(ctx context.Context, _ *struct{}) (*webhooksOutput, error) {
	v, err := g.flagsView()
	if err != nil {
		return nil, err
	}
	out := &webhooksOutput{}
	out.Body.Webhooks = []outbox.State{}
	if v.Flags.Tip == nil || g.outbox == nil {
		return out, nil
	}
	if out.Body.Webhooks, err = outbox.ReadStates(ctx, g.outbox, v.Flags.Tip.Settings.Webhooks); err != nil {
		return nil, g.auditor.explainError(err, "read how webhooks fare")
	}
	return out, nil
}
