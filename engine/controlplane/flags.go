package controlplane

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sort"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Flags is where every flag is, and what is known of the flags repository.
type Flags struct {
	Commit   string           `json:"commit" doc:"the tip of the flags repository"`
	Height   int64            `json:"height" doc:"of the tip: its place in the first-parent history"`
	Fault    string           `json:"fault,omitempty" doc:"why the repository can't be read, or its tip is not in force: then what was valid last is"`
	Faults   []manifest.Fault `json:"faults,omitempty" doc:"the first 100 of the tip"`
	Diverged *plan.Divergence `json:"diverged,omitempty" doc:"the branch was force-pushed: cells keep what they have until that is acknowledged (R39)"`
	Kills    []FlagKill       `json:"kills" doc:"all kills, by flag"`
	Flags    []FlagStatus     `json:"flags" doc:"by key, after the one that was asked for"`
	Total    int              `json:"total" doc:"how many flags there are"`
	Next     string           `json:"next,omitempty" doc:"give it as after= for the next page; none: this was the last"`
}

// FlagStatus is one flag.
type FlagStatus struct {
	Key           string        `json:"key"`
	Feature       string        `json:"feature,omitempty" doc:"what its code is called in releases; none: it is not gated"`
	Defined       bool          `json:"defined" doc:"the flags repository has it"`
	Disabled      bool          `json:"disabled,omitempty"`
	Killed        bool          `json:"killed,omitempty" doc:"in some cell at least"`
	Announcements []string      `json:"announcements,omitempty" doc:"that turn its feature on"`
	Channels      []FlagChannel `json:"channels" doc:"upstreams first"`
}

// FlagChannel is a flag in one channel.
type FlagChannel struct {
	Channel string            `json:"channel"`
	State   announce.State    `json:"state,omitempty" doc:"of its announcement; none: it is not gated, or no announcement has its feature"`
	At      time.Time         `json:"at,omitzero" doc:"when it is, or was, published; none: as soon as a cell is ready, or never"`
	Percent int               `json:"percent,omitempty" doc:"of the ramp, now"`
	Cells   map[FlagState]int `json:"cells" doc:"how many are in which state"`
}

// FlagDetail is one flag, with its definition and its cells.
type FlagDetail struct {
	FlagStatus
	Definition json.RawMessage `json:"definition,omitempty" doc:"the tip's, as flagd reads it"`
	Kills      []FlagKill      `json:"kills,omitempty"`
	Cells      []FlagCell      `json:"cells" doc:"by name, after the one that was asked for"`
	Total      int             `json:"total" doc:"how many cells there are, by the same filter"`
	Next       string          `json:"next,omitempty" doc:"give it as after= for the next page; none: this was the last"`
}

// FlagKill is a kill: a flag that is off whatever else holds, until a commit lifts it (R43).
type FlagKill struct {
	Flag        string    `json:"flag"`
	Reason      string    `json:"reason"`
	By          string    `json:"by,omitempty"`
	Until       time.Time `json:"until,omitzero" doc:"when somebody should look at it again: nothing ends by itself"`
	Committed   bool      `json:"committed" doc:"it is in the flags repository: only a commit lifts it"`
	Cells       int       `json:"cells" doc:"that it is for"`
	Confirmed   int       `json:"confirmed" doc:"of those, the ones that said that they have it in force"`
	Unconfirmed int       `json:"unconfirmed" doc:"those that are heard of, and did not say so yet"`
	Offline     []string  `json:"offline,omitempty" doc:"those that are not heard of, and never said so; the first 100: there it is not known to be off"`
}

type flagsInput struct {
	After string `query:"after" doc:"flags with keys after this one: what next= said"`
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"flags on a page"`
}

type flagsOutput struct{ Body Flags }

func (s *Server) flags(_ context.Context, in *flagsInput) (*flagsOutput, error) {
	b, err := s.lamps()
	if err != nil {
		return nil, err
	}
	f := b.f
	out := &flagsOutput{Body: Flags{
		Commit: f.Commit, Height: f.Height, Fault: f.Fault, Faults: f.Faults[:min(len(f.Faults), maxFaults)], Diverged: f.Diverged, Kills: b.kills(""),
		Flags: []FlagStatus{},
	}}
	keys := b.keys()
	out.Body.Total = len(keys)
	keys, out.Body.Next = page(keys, in.After, in.Limit)
	for _, key := range keys {
		out.Body.Flags = append(out.Body.Flags, b.status(key))
	}
	return out, nil
}

type flagInput struct {
	Key     string `path:"key" doc:"a flag"`
	Channel string `query:"channel" doc:"only cells of this channel"`
	After   string `query:"after" doc:"cells with names after this one: what next= said"`
	Limit   int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"cells on a page"`
}

type flagOutput struct{ Body FlagDetail }

func (s *Server) flag(_ context.Context, in *flagInput) (*flagOutput, error) {
	b, err := s.lamps()
	if err != nil {
		return nil, err
	}
	if !b.exists(in.Key) {
		return nil, huma.Error404NotFound("The flags repository has no such flag: /v1/flags lists them.")
	}
	out := &flagOutput{Body: FlagDetail{FlagStatus: b.status(in.Key), Kills: b.kills(in.Key), Cells: []FlagCell{}}}
	if d := b.definition(in.Key); d != nil {
		out.Body.Definition = d.Encode()
	}
	names := slices.Sorted(maps.Keys(b.v.Desired.Cells))
	names = slices.DeleteFunc(names, func(name string) bool { return in.Channel != "" && b.v.Desired.Cells[name].Channel != in.Channel })
	out.Body.Total = len(names)
	names, out.Body.Next = page(names, in.After, in.Limit)
	at := b.places(in.Key)
	for _, name := range names {
		out.Body.Cells = append(out.Body.Cells, b.cell(in.Key, name, at))
	}
	return out, nil
}

// page gives the sorted names after one, at most limit, and after which those that follow are.
func page(names []string, after string, limit int) (some []string, next string) {
	some = names[sort.Search(len(names), func(i int) bool { return names[i] > after }):]
	if len(some) > limit {
		some = some[:limit]
		next = some[limit-1]
	}
	return some, next
}

const noFlags = "This control plane has no flags repository: start it with sluice serve --flags-repo."

// lamps is the newest view for a look at flags, or what people are told while there is none.
func (s *Server) lamps() (*lamps, error) {
	if s.opts.Flags == nil {
		return nil, huma.Error404NotFound(noFlags)
	}
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	if v.Flags == nil {
		return nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable("The flags repository has not been read yet: ask again in a moment, or see the log of sluice serve."), http.Header{"Retry-After": {"2"}})
	}
	return newLamps(v), nil
}

type announcementsInput struct {
	State string `query:"state" doc:"only announcements in this state"`
	After string `query:"after" doc:"announcements with IDs after this one: what next= said"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"announcements on a page"`
}

// Announcements is a page of announcements.
type Announcements struct {
	Announcements []announce.Status `json:"announcements" doc:"by ID, without their cells"`
	Total         int               `json:"total" doc:"how many there are, by the same filter"`
	Next          string            `json:"next,omitempty" doc:"give it as after= for the next page; none: this was the last"`
}

type announcementsOutput struct{ Body Announcements }

func (s *Server) announcements(_ context.Context, in *announcementsInput) (*announcementsOutput, error) {
	b, err := s.lamps()
	if err != nil {
		return nil, err
	}
	var ids []string
	byID := map[string]announce.Status{}
	for _, a := range b.f.Plan.Announcements {
		if in.State == "" || string(a.State) == in.State {
			ids = append(ids, a.Announcement.ID)
			byID[a.Announcement.ID] = a
		}
	}
	slices.Sort(ids)
	out := &announcementsOutput{Body: Announcements{Announcements: []announce.Status{}, Total: len(ids)}}
	ids, out.Body.Next = page(ids, in.After, in.Limit)
	for _, id := range ids {
		out.Body.Announcements = append(out.Body.Announcements, byID[id])
	}
	return out, nil
}

type announcementInput struct {
	ID string `path:"id" doc:"an announcement"`
}

type announcementOutput struct{ Body announce.Status }

func (s *Server) announcement(_ context.Context, in *announcementInput) (*announcementOutput, error) {
	b, err := s.lamps()
	if err != nil {
		return nil, err
	}
	st, ok := b.f.Plan.Detail(in.ID)
	if !ok {
		return nil, huma.Error404NotFound("The flags repository has no such announcement: /v1/announcements lists them.")
	}
	return &announcementOutput{Body: st}, nil
}

type webhooksOutput struct {
	Body struct {
		Webhooks []outbox.State `json:"webhooks" doc:"as the settings of the flags repository have them"`
	}
}

func (s *Server) webhooks(ctx context.Context, _ *struct{}) (*webhooksOutput, error) {
	b, err := s.lamps()
	if err != nil {
		return nil, err
	}
	out := &webhooksOutput{}
	out.Body.Webhooks = []outbox.State{}
	if b.f.Tip == nil || s.opts.Outbox == nil {
		return out, nil
	}
	if out.Body.Webhooks, err = outbox.Read(ctx, s.opts.Outbox, b.f.Tip.Settings.Webhooks); err != nil {
		return nil, s.explained(err, "read how webhooks fare")
	}
	return out, nil
}

// flagRoutes are for people who look after flags.
func (s *Server) flagRoutes() {
	tags := []string{"flags"}
	op := func(id, method, path, summary string, errors ...int) huma.Operation {
		return s.secured(huma.Operation{OperationID: id, Method: method, Path: path, Tags: tags, Summary: summary, Errors: slices.Concat(errors, []int{404, 503})})
	}
	huma.Register(s.api, op("flags", http.MethodGet, "/v1/flags", "Where every flag is, and every kill"), s.flags)
	huma.Register(s.api, op("flag", http.MethodGet, "/v1/flags/{key}", "One flag, in every cell"), s.flag)
	kill := op("killFlag", http.MethodPost, "/v1/flags/{key}/kill", "Turn a flag off, in all connected cells within 2 s", 507)
	kill.Description = "It is kept before anything else is done, told to cells at once, and committed later; only a commit lifts it. It works whatever is wrong with either repository. The same kill again changes nothing. Whether there is such a flag is not asked, but said. 202: it is kept, and cells are about to be told."
	kill.Responses = map[string]*huma.Response{"202": s.answer("It is kept; cells are about to be told", "application/json", s.schema(Killed{}))}
	huma.Register(s.api, kill, s.kill)
	huma.Register(s.api, op("announcements", http.MethodGet, "/v1/announcements", "All announcements, and how far each is"), s.announcements)
	huma.Register(s.api, op("announcement", http.MethodGet, "/v1/announcements/{id}", "One announcement, in every cell"), s.announcement)
	huma.Register(s.api, op("webhooks", http.MethodGet, "/v1/webhooks", "How webhooks fare"), s.webhooks)
}

// rank orders states by how much of a flag they show: the best of several announcements counts.
func rank(s announce.State) int {
	return slices.Index([]announce.State{
		announce.Archived, announce.Cancelled, announce.Retracted, announce.Missed, announce.Held, announce.Draft, announce.Approved,
		announce.Scheduled, announce.Armed, announce.Publishing, announce.Published,
	}, s)
}
