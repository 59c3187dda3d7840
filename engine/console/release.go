package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// maxReleases is how many releases the page of all of them lists.
const maxReleases = 50

// renderReleases renders where the newest releases are.
func renderReleases(m *Model, p *Page) {
	p.Title = "Releases"
	all := m.view.Desired.Versions
	p.add("headline", ui.Heading("Releases ", ui.Soft(ui.Counted(len(all), "release"))))
	if len(all) == 0 {
		p.add("ladder", ui.Paragraph("empty", "There is no release yet: ",
			markup.Element("code", nil, "sluice release cut"), " makes one."))
		return
	}
	p.add("ladder", renderLadder(m, "Releases", m.newestReleases(maxReleases, false)))
	if more := len(all) - maxReleases; more > 0 {
		p.add("more", ui.Paragraph("soft", markup.Text(fmt.Sprintf("and %s older: ", ui.Thousands(more))),
			markup.Link(Address{Kind: Search}.String(), "search for one")))
	}
}

// renderRelease renders one release: where it is, what it brings, what keeps it, and the decisions about it.
func renderRelease(m *Model, p *Page, f Facts) {
	r := m.view.Desired.Releases[p.Address.Name]
	if r == nil {
		p.Found = false
		return
	}
	name := r.Version.String()
	p.Title = name
	p.add("headline", ui.Heading("Release "+name), releaseLines(m, name))
	p.add("actions", m.offersOfRelease(r))
	p.add("channels", ui.Subheading("Where it is"), releaseInChannels(m, r),
		ui.Command(words.Shell("sluice", "why", name)))
	if f.Notes != "" {
		p.add("notes", ui.Subheading("Notes"), ui.Element("div", "notes", f.Notes))
	}
	p.add("facts", ui.Subheading("What it is"), releaseFacts(r))
	p.add("images", renderImages(m, r))
	p.add("soak", soakCharts(m, r))
	p.add("decisions", decisionsOn(m, name))
}

// releaseLines says of the release what is so everywhere.
func releaseLines(m *Model, name string) markup.HTML {
	e, ok := view.Why(m.view, name, time.Time{})
	if !ok || e.Kind != view.SubjectRelease {
		return ""
	}
	var lines []markup.HTML
	for _, line := range e.Lines {
		// The heading and the facts say what the first line does.
		if !strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, name+", digest ") {
			lines = append(lines, markup.Element("li", nil, prose(line)))
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ui.Element("ul", "why", lines...)
}

func releaseInChannels(m *Model, r *plan.Release) markup.HTML {
	name := r.Version.String()
	var rows [][]markup.HTML
	for _, channel := range m.view.Desired.Order {
		w := m.whereabouts(channel, r)
		since, left := ui.Soft("never"), markup.HTML("")
		c := m.view.Desired.Channels[channel]
		for i, h := range c.History {
			if h.Release != name {
				continue
			}
			since, left = ui.Instant(h.Moved), ""
			if i+1 < len(c.History) {
				left = markup.Join(ui.Instant(c.History[i+1].Moved), ui.Soft(", for "), version(c.History[i+1].Release))
			}
		}
		run, healthy := 0, 0
		for _, cell := range c.Cells {
			if s := m.view.Observed.Cells[cell.Name]; s != nil && s.Release == name && s.Digest == r.Digest {
				run++
				if s.State == "healthy" {
					healthy++
				}
			}
		}
		cellsOf := ui.Soft("none")
		if run > 0 {
			filter := "channel:" + quoted(channel) + " release:" + quoted(name)
			cellsOf = ui.Element("span", "whole", markup.Link(Address{Kind: Fleet, Filter: filter}.String(),
				fmt.Sprintf("%s of %s, %s healthy", ui.Thousands(run), ui.Thousands(len(c.Cells)),
					ui.Thousands(healthy))))
		}
		rows = append(rows, []markup.HTML{link(Channel, channel), w.render(), since, left, cellsOf,
			verdicts(m.blocked()[place{channel, name}])})
	}
	return ui.Table("Where it is", []string{"Channel", "State", "Came", "Left", "Cells that run it", "What keeps it"},
		rows)
}

func releaseFacts(r *plan.Release) markup.HTML {
	list := func(all []string) markup.HTML { return ui.Text(strings.Join(all, ", ")) }
	var authors []string
	for _, a := range r.Authors {
		authors = append(authors, a.Name)
	}
	requires := []string{}
	if n := r.Requires.Infrastructure; n > 0 {
		requires = append(requires, fmt.Sprintf("infrastructure %d", n))
	}
	rollback := markup.HTML("allowed")
	if r.Rollback == releases.ForwardOnly {
		rollback = "forward only: nothing rolls back over it"
	}
	var faults []markup.HTML
	for _, f := range r.Faults[:min(len(r.Faults), maxListed)] {
		faults = append(faults, markup.Element("li", nil, markup.Text(f.String())))
	}
	fault := markup.HTML("")
	if len(faults) > 0 {
		fault = ui.Element("ul", "", faults...)
	}
	return ui.Facts([2]markup.HTML{"Faults", fault}, [2]markup.HTML{"Digest", ui.Code(string(r.Digest))},
		[2]markup.HTML{"Came with commit", ui.Code(words.ShortCommit(r.Origin))},
		[2]markup.HTML{"Authors", list(authors)}, [2]markup.HTML{"Signed by", ui.Code(strings.Join(r.Keys, ", "))},
		[2]markup.HTML{"Source", ui.Text(strings.TrimSpace(r.Source.Repository + " " +
			words.ShortCommit(r.Source.Commit)))},
		[2]markup.HTML{"Features", list(r.Features)}, [2]markup.HTML{"Fixes", list(r.Fixes)},
		[2]markup.HTML{"Requires", list(requires)}, [2]markup.HTML{"Rollback", rollback})
}

// renderImages compares the release's images with those of the channels' heads.
func renderImages(m *Model, r *plan.Release) markup.HTML {
	var others []*plan.Release
	for _, channel := range m.view.Desired.Order {
		e := m.view.Desired.Channels[channel].Effective
		if e == nil || e.Release == r.Version.String() || len(others) == 4 {
			continue
		}
		if o := m.view.Desired.Releases[e.Release]; o != nil && o.Loaded && !slices.Contains(others, o) {
			others = append(others, o)
		}
	}
	head := []string{"Component", "Image"}
	for _, o := range others {
		head = append(head, "Against "+o.Version.String())
	}
	var rows [][]markup.HTML
	for _, c := range r.Components[:min(len(r.Components), pageRows)] {
		row := []markup.HTML{markup.Text(c.Name), ui.Code(shortImage(c.Image))}
		for _, o := range others {
			i := slices.IndexFunc(o.Components, func(x releases.Component) bool { return x.Name == c.Name })
			switch {
			case i < 0:
				row = append(row, ui.State("new", "new"))
			case o.Components[i].Image == c.Image:
				row = append(row, ui.State("none", "the same"))
			default:
				row = append(row, markup.Join(ui.State("updating", "differs: "),
					ui.Code(shortImage(o.Components[i].Image))))
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	return ui.Subheading("Images") + ui.Table("Images", head, rows)
}

// shortImage shortens the digest of an image for people.
func shortImage(image string) string {
	name, digest, ok := strings.Cut(image, "@sha256:")
	if !ok {
		return image
	}
	return name + "@" + digest[:min(len(digest), 12)]
}

// decisionsOn lists the decisions that moved a channel to the release.
func decisionsOn(m *Model, name string) markup.HTML {
	var rows [][]markup.HTML
	for _, channel := range m.view.Desired.Order {
		for _, h := range m.view.Desired.Channels[channel].History {
			if h.Release == name {
				rows = append(rows, []markup.HTML{link(Channel, channel), markup.Text(howItCame(&h)),
					ui.Instant(h.Moved), markup.Text(fmt.Sprint(h.Sequence)), commitLink(h.Written)})
			}
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return ui.Subheading("Decisions") + ui.Table("Decisions", []string{"Channel", "How", "When", "Sequence",
		"Commit with the evidence"}, rows)
}
