package announce

import (
	"fmt"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// world is a flags repository, a fleet and a clock. Files are read as in production; commits are numbers.
type world struct {
	tb         rapid.TB
	files      map[string]string
	commits    int
	trees      map[string]*repository.Tree
	authors    map[string][]string
	kills      []repository.Override
	channels   []Channel
	cells      []Cell
	releases   []Release
	memory     Memory
	now        time.Time
	inForce    map[string]string // by cell: fingerprint of its bundle and orders
	plannedTip *repository.Tree  // the tip of the last plan
}

const settings = `apiVersion: sluice/v1
kind: Flags
zone: Europe/Berlin
approvals: {count: 1, from: [product]}
soak: 1h
people:
  ada: {email: ada@example.com, roles: [product]}
  bob: {email: bob@example.com, roles: [product]}
  eve: {email: eve@example.com}
`

// flagSetYAML returns the flags x and y of the feature f, z of g, and one that is not gated.
func flagSetYAML(x, plain string) string {
	flag := func(key, feature, rule string) string {
		return fmt.Sprintf(
			"  %s:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"on\"\n%s    metadata: {feature: %s, off: \"off\"}\n", key, rule, feature)
	}
	return "flags:\n" + flag("x", "f", x) + flag("y", "f", "") + flag("z", "g", "") +
		"  plain:\n    state: ENABLED\n    variants: {a: 1, b: 2}\n    defaultVariant: " + plain + "\n"
}

// noon is 2026-12-01T12:00 in Berlin, the usual time of publication in tests.
func noon() time.Time { return time.Date(2026, 12, 1, 11, 0, 0, 0, time.UTC) }

// newWorld has staging with s1, and downstream dedicated with d1, d2 and d3. All cells run a release that contains f;
// the time is two days before noon.
func newWorld(tb rapid.TB) *world {
	w := &world{
		tb: tb, now: noon().Add(-48 * time.Hour),
		files:    map[string]string{"sluice.yaml": settings, "flags/all.yaml": flagSetYAML("", "a")},
		trees:    map[string]*repository.Tree{},
		authors:  map[string][]string{},
		channels: []Channel{{Name: "staging"}, {Name: "dedicated", After: []string{"staging"}}},
		releases: []Release{{Version: "1.0.0"}, {Version: "2.0.0", Features: []string{"f"}}},
		inForce:  map[string]string{},
	}
	w.cells = []Cell{
		w.cell("d1", "dedicated"), w.cell("d2", "dedicated"), w.cell("d3", "dedicated"), w.cell("s1", "staging"),
	}
	w.commit()
	return w
}

func (w *world) cell(name, channel string) Cell {
	return Cell{
		Name: name, Channel: channel, Known: true, Release: "2.0.0", Assignment: "1/2", Features: []string{"f"},
		Labels: map[string]string{"name": name},
	}
}

func (w *world) findCell(name string) *Cell {
	i := slices.IndexFunc(w.cells, func(c Cell) bool { return c.Name == name })
	return &w.cells[i]
}

// downgrade puts a cell on the release that lacks f, upgrade on the one that has it.
func (w *world) downgrade(name string) { w.move(name, "1.0.0", nil) }
func (w *world) upgrade(name string)   { w.move(name, "2.0.0", []string{"f"}) }

func (w *world) move(name, release string, features []string) {
	c := w.findCell(name)
	c.Release, c.Features = release, features
	c.Assignment += "+"
}

// newsYAML returns an announcement of f at noon, with more lines of YAML.
func newsYAML(more ...string) string {
	text := "apiVersion: sluice/v1\nkind: Announcement\ntitle: News\nfeatures: [f]\n"
	if !slices.ContainsFunc(more, func(l string) bool { return strings.HasPrefix(l, "publishAt:") || l == "" }) {
		text += "publishAt: 2026-12-01T12:00:00\n"
	}
	return text + strings.Join(more, "\n") + "\n"
}

// putFiles commits files, or removes those without content.
func (w *world) putFiles(files ...string) *world {
	for i := 0; i < len(files); i += 2 {
		if w.files[files[i]] = files[i+1]; files[i+1] == "" {
			delete(w.files, files[i])
		}
	}
	return w.commit()
}

func (w *world) hash() string { return fmt.Sprintf("%040d", w.commits) }

func (w *world) commit() *world {
	w.tb.Helper()
	w.commits++
	fsys := fstest.MapFS{}
	for name, text := range w.files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	t := repository.Load(nil, fsys)
	if t.Invalid {
		w.tb.Fatalf("what a test writes is not valid: %v", t.Faults)
	}
	w.trees[w.hash()] = t
	return w
}

func (w *world) tip() *repository.Tree { return w.trees[w.hash()] }

// approve adds people's approvals of the current announcement.
func (w *world) approve(id string, people ...string) *world {
	w.tb.Helper()
	hash, _ := w.tip().Hash(w.tip().Announcements[id])
	for _, p := range people {
		w.files["approvals/"+id+"/"+p+".yaml"] = "hash: " + hash + "\n"
	}
	return w.commit()
}

func (w *world) input() Input {
	in := Input{
		Now: w.now, Tip: w.tip(), Commit: w.hash(), Trees: w.trees, Authors: w.authors, Kills: w.kills,
		Channels: w.channels, Cells: slices.Clone(w.cells), Releases: w.releases, Memory: w.memory,
	}
	for _, a := range in.Tip.Approvals {
		in.Proven = append(in.Proven, ProvenApproval{Approval: a})
	}
	return in
}

// planOnce makes a plan and carries it out. Cells apply the plan at once, unless they are silent.
func (w *world) planOnce() Plan {
	w.tb.Helper()
	w.plannedTip = w.tip()
	p := Make(w.input())
	w.memory = p.Memory
	prints := map[*CellFlags]string{}
	for i := range w.cells {
		c := &w.cells[i]
		if t := p.CellFlags[c.Name]; t != nil {
			is, known := prints[t]
			if !known {
				is = fingerprint(t)
				prints[t] = is
			}
			if !c.Silent {
				w.inForce[c.Name] = is
			}
			c.Current, c.Bundle = w.inForce[c.Name] == is, t.Bundle
		}
	}
	w.commitWrites(p.Writes)
	return p
}

func (w *world) commitWrites(writes []Write) {
	w.tb.Helper()
	for _, x := range writes {
		w.files[x.Path] = string(x.Content)
	}
	if len(writes) > 0 {
		w.commit()
	}
}

func fingerprint(t *CellFlags) string {
	if t.Bundle == nil {
		return fmt.Sprintf("%+v", t.Orders)
	}
	return string(t.Bundle.Encode()) + fmt.Sprintf("%+v", t.Orders)
}

// planUntilSettled plans until no write is left, and returns the last plan.
func (w *world) planUntilSettled() Plan {
	w.tb.Helper()
	for range 10 {
		if p := w.planOnce(); len(p.Writes) == 0 {
			return p
		}
	}
	w.tb.Fatal("there is always more to write")
	return Plan{}
}

// advanceTo sets the time.
func (w *world) advanceTo(to time.Time) *world {
	w.now = to
	return w
}

// foldFlags folds a cell's bundle and orders.
func (w *world) foldFlags(p Plan, name string) *flags.Folded {
	w.tb.Helper()
	c, t := w.findCell(name), p.CellFlags[name]
	compiled, err := flags.Compile(t.Bundle)
	if err != nil {
		w.tb.Fatalf("compile what %s is told: %v", name, err)
	}
	return compiled.Fold(t.Orders,
		flags.Facts{Cell: name, Channel: c.Channel, Release: c.Release, Features: c.Features}, w.now.Unix())
}

// variant returns a flag's variant in a cell.
func (w *world) variant(p Plan, name, key string) string {
	w.tb.Helper()
	return w.foldFlags(p, name).Evaluate(key, flags.Context{"targetingKey": "somebody"}, w.now.Unix()).Variant
}

// record returns the committed outcome.
func (w *world) record(id, channel string) repository.Outcome {
	return w.tip().Records[id][channel].Outcome
}

// channelStatus returns a plan's status of an announcement in a channel.
func (p *Plan) channelStatus(tb rapid.TB, id, channel string) ChannelStatus {
	tb.Helper()
	st, ok := p.Detail(id)
	if !ok {
		tb.Fatalf("the plan knows no %s", id)
	}
	for _, c := range st.Channels {
		if c.Channel == channel {
			return c
		}
	}
	return ChannelStatus{}
}

func (c ChannelStatus) findCell(name string) CellStatus {
	for _, s := range c.Cells {
		if s.Cell == name {
			return s
		}
	}
	return CellStatus{}
}

func writeReasons(p Plan) (lines []string) {
	for _, w := range p.Writes {
		lines = append(lines, w.Why)
	}
	return lines
}

func eventIDs(p Plan) (ids []string) {
	for _, e := range p.Events {
		ids = append(ids, e.ID)
	}
	return ids
}
