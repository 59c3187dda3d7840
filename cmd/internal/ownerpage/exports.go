package ownerpage

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/export"
)

// Exports is what leaves the cell beside its reports, and what waits to.
type Exports struct {
	Wish    exporter.Wish
	Waiting []exporter.File // the oldest first
}

// maxShown bounds what is shown of a file that waits, in bytes.
const maxShown = 256 << 10

// through returns what may leave now, and what the release that runs asks for beyond it.
func (s *State) through() (leaves export.List, asked []string) {
	leaves = s.Decided.Export.Effective(s.Exports.Wish.List)
	return leaves, export.Wider(s.Exports.Wish.List, leaves)
}

func (s *State) exportsAreOff() bool { return s.Decided.Export != nil && s.Decided.Export.Off }

// exported shows what leaves the cell, what the release asks for, and the files that wait.
func exported(s *State, at place) markup.HTML {
	leaves, asked := s.through()
	is := ui.State("none", "nothing leaves")
	switch {
	case s.exportsAreOff():
		is = ui.State("held", "off: nothing leaves")
	case len(leaves.Lines()) > 0:
		is = ui.State("updating", "leaves "+words.ExactDuration(s.Decided.Export.HeldFor())+" after it was measured")
	}
	parts := []markup.HTML{ui.Facts([2]markup.HTML{"Now", is},
		[2]markup.HTML{"Asked by", ui.Text(s.Exports.Wish.Release)})}
	parts = append(parts, listed("May leave", "", leaves.Lines()))
	if len(asked) > 0 {
		parts = append(parts, listed("Asked for, and stays here until you agree", "+ ", asked))
	}
	return markup.Join(append(parts, offers(s, at, "What you can do about exports", exportActions()),
		waitingFiles(s, at), ui.Command(at.command("export", "list")))...)
}

// listed shows lines of a list, with a mark before each.
func listed(title, mark string, lines []string) markup.HTML {
	var items []markup.HTML
	for _, line := range lines[:min(len(lines), maxRows)] {
		items = append(items, markup.Element("li", nil, markup.Text(mark), ui.Code(words.OneLine(line))))
	}
	if len(items) == 0 {
		return ""
	}
	if more := len(lines) - len(items); more > 0 {
		items = append(items, ui.Element("li", "soft", markup.Text(fmt.Sprintf("and %s more", ui.Thousands(more)))))
	}
	return markup.Element("h3", nil, markup.Text(title)) + ui.Element("ul", "why", items...)
}

func waitingFiles(s *State, at place) markup.HTML {
	all := s.Exports.Waiting
	if len(all) == 0 {
		return ui.Paragraph("soft", "No file waits to leave.")
	}
	var rows [][]markup.HTML
	for _, f := range all[max(0, len(all)-maxRows):] {
		is := ui.State("updating", "ready to leave")
		switch {
		case f.MayHaveLeft:
			is = ui.State("updating", "being sent")
		case f.Held:
			is = ui.State("held", "held")
		}
		rows = append(rows, []markup.HTML{markup.Link(at.base+"export/"+url.PathEscape(f.Name), f.Name),
			ui.Instant(f.At), is, markup.Text(ui.Counted(int(f.Size), "byte"))})
	}
	more := markup.HTML("")
	if n := len(all) - len(rows); n > 0 {
		more = ui.Paragraph("soft", markup.Text("and "+ui.Counted(n, "older file")))
	}
	return ui.Table("Files that wait to leave", []string{"File", "Measured until", "Is", "Size"}, rows) + more
}

// serveExport shows a file that waits, as it will leave the cell.
func (s *Site) serveExport(w http.ResponseWriter, r *http.Request) {
	name, now := r.PathValue("name"), s.options.Now()
	text, err := exporter.Read(s.options.Folder, name)
	switch {
	case errors.Is(err, exporter.ErrNoFile):
		s.say(w, http.StatusNotFound, "No such file waits", "It was sent or removed, or the address is mistyped.",
			"The first page has the files that wait.")
		return
	case err != nil:
		s.say(w, http.StatusConflict, "The file can't be read", err.Error(), "The agent removes what is damaged.")
		return
	}
	out := &ui.Frame{Title: name, Base: s.at.base}
	rest := markup.HTML("")
	if len(text) > maxShown {
		text, rest = text[:maxShown], ui.Paragraph("soft", "This is the beginning; the command prints all of it.")
	}
	out.Regions = ui.Regions{{ID: "headline", HTML: markup.Join(ui.Heading(name), ui.Paragraph("lead",
		"This leaves the cell as it is here, a line for each value."),
		markup.Element("pre", markup.Attributes{"tabindex", "0", "aria-label", "Lines of " + name},
			markup.Text(string(text))), rest, ui.Command(s.at.command("export", "show", name)),
		ui.Element("p", "buttons", markup.Link(s.at.base+"#exports", "Back")))}}
	s.write(w, http.StatusOK, framed(out, s.at, now))
}

// exportActions are what an owner can decide on exports, in the order in which the page offers them.
func exportActions() []action {
	return []action{
		{Name: "approve-export", Title: "Agree to what is asked for",
			Effect: "What the release that runs asks for may leave this cell, and nothing else. A later release that " +
				"asks for more exports what you agreed to, until you agree again.",
			fields: []field{{Name: "release", Label: "Release", Required: true, suggest: func(s *State) []string {
				return []string{s.Exports.Wish.Release}
			}}},
			fits: func(s *State) bool {
				_, asked := s.through()
				return s.Exports.Wish.Release != "" && len(asked) > 0
			},
			decide: func(s *State, v url.Values, _ time.Time) (owner.Decision, problems) {
				if s.Exports.Wish.Release == "" || v.Get("release") != s.Exports.Wish.Release {
					return owner.Decision{}, problems{"release": "This does not run here, or no longer: the first " +
						"page has what is asked for."}
				}
				return owner.ApproveExport(s.Exports.Wish.Release, s.Exports.Wish.List), nil
			}},
		{Name: "hold-export", Title: "Change how long files are held",
			Effect: "A file waits here for so long before it leaves, and you can read it meanwhile.",
			fields: []field{{Name: "hold", Label: "For how long", Required: true, Hint: "Such as 15m or 1h."}},
			decide: func(_ *State, v url.Values, _ time.Time) (owner.Decision, problems) {
				hold, err := words.ParseDuration(v.Get("hold"))
				if err != nil {
					return owner.Decision{}, problems{"hold": err.Error()}
				}
				if hold < cells.MinHold || hold > cells.MaxHold {
					return owner.Decision{}, problems{"hold": fmt.Sprintf("A hold is from %s to %s.",
						words.ExactDuration(cells.MinHold), words.ExactDuration(cells.MaxHold))}
				}
				return owner.HoldExport(hold), nil
			}},
		{Name: "export-off", Title: "Let nothing leave",
			Effect: "Within two seconds nothing leaves any more, and what waits is removed. The vendor sees that " +
				"something is missing.",
			fits: func(s *State) bool { return !s.exportsAreOff() }, decide: always(owner.StopExport()),
			after: func(folder string) error { // the agent does so too, if it lives
				if _, err := exporter.Drop(folder); err != nil {
					return fmt.Errorf("it is decided, but what waits could not be removed by this page: %w", err)
				}
				return nil
			}},
	}
}
