package ownerpage

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// field is what an action asks for.
type field struct {
	Name, Label, Hint string
	Required          bool
	suggest           func(*State) []string // nil: nothing is suggested
}

// problems says of fields why what was written can't be used.
type problems map[string]string

// action is what an owner can do on the page.
type action struct {
	Name, Title, Effect string
	fields              []field
	fits                func(*State) bool // whether there is anything to do; nil: always
	// decide returns the decision for values that were typed, or what is wrong with them.
	decide func(s *State, v url.Values, now time.Time) (owner.Decision, problems)
	after  func(folder string) error // what is to be done in the state folder once it is decided; nil: nothing
}

// maxValue bounds what a field takes, in bytes.
const maxValue = 1 << 10

// always decides the same, whatever was typed.
func always(d owner.Decision) func(*State, url.Values, time.Time) (owner.Decision, problems) {
	return func(*State, url.Values, time.Time) (owner.Decision, problems) { return d, nil }
}

// releaseActions are what an owner can decide on releases, in the order in which the page offers them.
func releaseActions() []action {
	return []action{
		{Name: "approve", Title: "Approve a release", Effect: "The release may start here: exactly these bytes, by " +
			"their digest. Where approval is not required, it may start without.",
			fields: []field{{Name: "digest", Label: "Digest", Required: true, suggest: offeredDigests}},
			fits:   func(s *State) bool { return len(s.Candidates()) > 0 }, decide: decideApprove},
		{Name: "pause", Title: "Pause", Effect: "Nothing new starts in this cell until you end the pause. The " +
			"vendor sees the reason, and can't override it. The cell's own return to its last good release is exempt.",
			fields: []field{{Name: "reason", Label: "Reason", Hint: "The vendor sees it.", Required: true}},
			decide: decidePause},
		{Name: "unpause", Title: "End the pause", Effect: "What is offered may start again.",
			fits: func(s *State) bool { return s.Decided.Paused != "" }, decide: always(owner.Unpause())},
		{Name: "pin", Title: "Pin", Effect: "No other release starts in this cell until you end the pin. What runs " +
			"or is offered is pinned by its digest.",
			fields: []field{{Name: "release", Label: "Release", Required: true, suggest: knownReleases}},
			decide: decidePin},
		{Name: "unpin", Title: "End the pin", Effect: "Other releases may start again.",
			fits: func(s *State) bool { return s.Decided.Pin != "" }, decide: always(owner.Unpin())},
		{Name: "add-window", Title: "Add a window", Effect: "Outside all windows nothing new starts; what started " +
			"inside a window is finished.",
			fields: []field{{Name: "opens", Label: "Opens", Required: true,
				Hint: "A cron line of five fields, such as " +
					"0 22 * * SAT: minute, hour, day of month, month, day of week."},
				{Name: "for", Label: "For how long", Required: true, Hint: "Such as 4h, 90m or 2d."},
				{Name: "zone", Label: "Time zone", Hint: "Such as Europe/Berlin; without one, UTC."}},
			decide: decideWindow},
		{Name: "remove-window", Title: "Remove a window", Effect: "Without windows, something new may start at any " +
			"time.",
			fields: []field{{Name: "number", Label: "Number of the window", Required: true, suggest: windowNumbers}},
			fits:   func(s *State) bool { return len(s.Decided.Windows) > 0 },
			decide: func(_ *State, v url.Values, _ time.Time) (owner.Decision, problems) {
				return owner.RemoveWindow(v.Get("number")), nil
			}},
		{Name: "require-approval", Title: "Require approval",
			Effect: "Only releases that you approved start from now on.",
			fits:   func(s *State) bool { return !s.Decided.Approval }, decide: always(owner.RequireApproval(true))},
		{Name: "approval-off", Title: "Require no approval", Effect: "Releases start without your approval.",
			fits: func(s *State) bool { return s.Decided.Approval }, decide: always(owner.RequireApproval(false))},
	}
}

// actionOf returns an action by its name; nil: there is none.
func actionOf(name string) *action {
	all := append(releaseActions(), exportActions()...)
	if i := slices.IndexFunc(all, func(a action) bool { return a.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// check returns the values of an action's fields, with what is wrong with them, and the decision if nothing is.
func (a *action) check(s *State, v url.Values, now time.Time) (owner.Decision, problems) {
	wrong := problems{}
	for _, f := range a.fields {
		value := strings.TrimSpace(v.Get(f.Name))
		v.Set(f.Name, value)
		switch {
		case value == "" && f.Required:
			wrong[f.Name] = "It is missing."
		case len(value) > maxValue:
			wrong[f.Name] = "It is longer than " + strconv.Itoa(maxValue) + " bytes."
		}
	}
	if len(wrong) > 0 {
		return owner.Decision{}, wrong
	}
	return a.decide(s, v, now)
}

func offeredDigests(s *State) (all []string) {
	for _, c := range s.Candidates() {
		all = append(all, string(c.Digest))
	}
	return all
}

func knownReleases(s *State) (all []string) {
	if r := s.Offer.Running; r != nil {
		all = append(all, r.Release)
	}
	for _, c := range s.Candidates() {
		all = append(all, c.Release)
	}
	return all
}

func windowNumbers(s *State) (all []string) {
	for i := range s.Decided.Windows {
		all = append(all, strconv.Itoa(i+1))
	}
	return all
}

// decideApprove approves what is still offered: what was offered when the page was made may be withdrawn.
func decideApprove(s *State, v url.Values, _ time.Time) (owner.Decision, problems) {
	all := s.Candidates()
	i := slices.IndexFunc(all, func(c owner.Candidate) bool { return string(c.Digest) == v.Get("digest") })
	if i < 0 {
		return owner.Decision{}, problems{"digest": "This is not offered, or no longer: the first page has what is."}
	}
	return owner.Approve(all[i]), nil
}

func decidePause(_ *State, v url.Values, _ time.Time) (owner.Decision, problems) {
	return owner.Pause(v.Get("reason")), nil
}

func decidePin(s *State, v url.Values, _ time.Time) (owner.Decision, problems) {
	version := v.Get("release")
	if _, err := releases.ParseVersion(version); err != nil {
		return owner.Decision{}, problems{"release": err.Error()}
	}
	digest, err := owner.DigestToPin(s.Candidates(), s.Offer.Running, version)
	if err != nil {
		return owner.Decision{}, problems{"release": err.Error()}
	}
	return owner.Pin(version, digest), nil
}

func decideWindow(_ *State, v url.Values, now time.Time) (owner.Decision, problems) {
	w := window.Window{Opens: v.Get("opens"), Zone: v.Get("zone")}
	var err error
	if w.For, err = words.ParseDuration(v.Get("for")); err != nil {
		return owner.Decision{}, problems{"for": err.Error()}
	}
	wrong := problems{}
	for _, one := range w.Compile() {
		wrong[one.Field] = one.Reason
	}
	if len(wrong) > 0 {
		return owner.Decision{}, wrong
	}
	return owner.AddWindow(w, now), nil
}
