package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// maxReleases is how many releases the page of all of them lists.
const maxReleases = 50

// renderReleases renders where the newest releases are.
func renderReleases(m *Model, p *Page) {
	p.Title = "Releases"
	all := m.view.Desired.Versions
	p.add("headline", heading("Releases ", soft(counted(len(all), "release"))))
	if len(all) == 0 {
		p.add("ladder", paragraph("empty", "There is no release yet: ",
			markup.Element("code", nil, "sluice release cut"), " makes one."))
		return
	}
	p.add("ladder", renderLadder(m, "Releases", m.newestReleases(maxReleases, false)))
	if more := len(all) - maxReleases; more > 0 {
		p.add("more", paragraph("soft", markup.Text(fmt.Sprintf("and %s older: ", thousands(more))),
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
	p.add("headline", heading("Release "+name), releaseLines(m, name))
	p.add("actions", m.offersOfRelease(r))
	p.add("channels", subheading("Where it is"), releaseInChannels(m, r), command(shell("sluice", "why", name)))
	if f.Notes != "" {
		p.add("notes", subheading("Notes"), element("div", "notes", f.Notes))
	}
	p.add("facts", subheading("Facts"), releaseFacts(r))
	p.add("images", renderImages(m, r))
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
		if !strings.HasPrefix(line, "  ") {
			lines = append(lines, markup.Element("li", nil, markup.Text(line)))
		}
	}
	return element("ul", "why", lines...)
}

func releaseInChannels(m *Model, r *plan.Release) markup.HTML {
	name := r.Version.String()
	var rows [][]markup.HTML
	for _, channel := range m.view.Desired.Order {
		w := m.whereabouts(channel, r)
		since, left := soft("never"), markup.HTML("")
		c := m.view.Desired.Channels[channel]
		for i, h := range c.History {
			if h.Release != name {
				continue
			}
			since, left = instant(h.Moved), ""
			if i+1 < len(c.History) {
				left = markup.Join(instant(c.History[i+1].Moved), soft(", for "), version(c.History[i+1].Release))
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
		cellsOf := soft("none")
		if run > 0 {
			filter := "channel:" + quoted(channel) + " release:" + quoted(name)
			cellsOf = markup.Link(Address{Kind: Fleet, Filter: filter}.String(),
				fmt.Sprintf("%s of %s, %s healthy", thousands(run), thousands(len(c.Cells)), thousands(healthy)))
		}
		rows = append(rows, []markup.HTML{link(Channel, channel), state(w.shape, w.word), since, left, cellsOf,
			verdicts(m.blocked()[place{channel, name}])})
	}
	return table("Where it is", []string{"Channel", "State", "Came", "Left", "Cells that run it", "What keeps it"},
		rows)
}

func releaseFacts(r *plan.Release) markup.HTML {
	list := func(all []string) markup.HTML { return text(strings.Join(all, ", ")) }
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
		fault = element("ul", "", faults...)
	}
	return facts([2]markup.HTML{"Faults", fault}, [2]markup.HTML{"Digest", code(string(r.Digest))},
		[2]markup.HTML{"Came with commit", code(words.ShortCommit(r.Origin))},
		[2]markup.HTML{"Authors", list(authors)}, [2]markup.HTML{"Signed by", code(strings.Join(r.Keys, ", "))},
		[2]markup.HTML{"Source", text(strings.TrimSpace(r.Source.Repository + " " + words.ShortCommit(r.Source.Commit)))},
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
		row := []markup.HTML{markup.Text(c.Name), code(shortImage(c.Image))}
		for _, o := range others {
			i := slices.IndexFunc(o.Components, func(x releases.Component) bool { return x.Name == c.Name })
			switch {
			case i < 0:
				row = append(row, state("new", "new"))
			case o.Components[i].Image == c.Image:
				row = append(row, state("none", "the same"))
			default:
				row = append(row, markup.Join(state("updating", "differs: "), code(shortImage(o.Components[i].Image))))
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	return subheading("Images") + table("Images", head, rows)
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
				rows = append(rows, []markup.HTML{link(Channel, channel), markup.Text(howItCame(&h)), instant(h.Moved),
					markup.Text(fmt.Sprint(h.Sequence)), commitLink(h.Written)})
			}
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return subheading("Decisions") + table("Decisions", []string{"Channel", "How", "When", "Sequence",
		"Commit with the evidence"}, rows)
}
