package announcer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// fleet is what announcements need of the release repository and of cells' reports. Immutable.
type fleet struct {
	desired  *plan.Desired
	channels []announce.Channel
	cells    []announce.Cell
	releases []announce.Release
}

// equal reports whether two fleets lead to the same plan. It compares the repository's part only by Desired's identity.
func (f *fleet) equal(g *fleet) bool {
	return f != nil && g != nil && f.desired == g.desired && slices.EqualFunc(f.cells, g.cells, sameCell)
}

// sameCell compares the fields that may change without a new commit.
func sameCell(a, b announce.Cell) bool {
	return a.Name == b.Name && a.Silent == b.Silent && a.Known == b.Known && a.Release == b.Release &&
		a.Assignment == b.Assignment &&
		a.HeadWait == b.HeadWait && a.Current == b.Current && a.Bundle == b.Bundle &&
		sameSlice(a.Features, b.Features) &&
		sameReport(a.Report, b.Report)
}

// sameSlice compares slices, quickly if they share their array, as they usually do.
func sameSlice(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

func sameReport(a, b *announce.Report) bool {
	return a == b || a != nil && b != nil && maps.Equal(a.States, b.States)
}

// observeFleet returns the fleet in the plan's view, with each cell's newest state. published is what cells got last.
func (a *Announcer) observeFleet(v *view.View, states map[string]*plan.CellState,
	published map[string]*cells.Flags) *fleet {
	f := &fleet{desired: v.Desired, cells: make([]announce.Cell, 0, len(v.Desired.Cells))}
	if a.contents == nil || a.contents.desired != v.Desired {
		a.contents = newReleaseContents(v.Desired)
	}
	for _, name := range v.Desired.Order {
		// A channel with unknown upstreams must not count as an entry channel, which gets flags without approval.
		if policy := v.Desired.Channels[name].Valid; policy != nil {
			f.channels = append(f.channels, announce.Channel{Name: name, After: policy.After})
		}
	}
	bundles := map[releases.Digest]*flags.Bundle{}
	for _, b := range a.bundles.bundles {
		bundles[b.digest] = b.bundle
	}
	next := a.contents.blockedReasons(v)
	for _, name := range a.contents.names {
		c := a.cellInput(v, v.Desired.Cells[name], states[name], published[name])
		if c.HeadWait.Text == "" {
			c.HeadWait = next[c.Channel]
		}
		if t := published[name]; t != nil {
			c.Bundle = bundles[t.Bundle.Digest]
		}
		f.cells = append(f.cells, c)
	}
	f.releases = a.contents.releasesInUse(states)
	return f
}

func (a *Announcer) cellInput(v *view.View, c *plan.Cell, s *plan.CellState, published *cells.Flags) announce.Cell {
	out := announce.Cell{Name: c.Name, Channel: c.Channel, Labels: c.Labels, Silent: v.Silent(s)}
	if held := v.Held(c.Name); held != nil {
		out.HeadWait = a.contents.describeWait(held)
	}
	if s == nil || s.LastReport.IsZero() {
		return out
	}
	out.Known, out.Release = true, s.Release
	out.Features = a.contents.commonFeatures(s)
	newest := s.Applying
	if newest == nil {
		newest = s.Running
	}
	if newest != nil {
		out.Assignment = fmt.Sprintf("%d/%d", newest.Epoch, newest.Sequence)
	}
	if r := s.Flags; r != nil {
		out.Report = &announce.Report{States: r.States}
		out.Current = published != nil && r.Bundle == published.Bundle.Digest && r.Orders == published.Orders.Digest
	}
	return out
}

// releaseContents holds what releases of one commit of the release repository contain, and caches derived values.
type releaseContents struct {
	desired  *plan.Desired
	names    []string                     // of cells, sorted
	features map[releases.Digest][]string // sorted; of releases that were read
	common   map[[2]releases.Digest][]string
	waits    map[waitKey]announce.HeadWait
}

type waitKey struct {
	gate, words string
	code        reason.Code
	until       time.Time
}

func newReleaseContents(d *plan.Desired) *releaseContents {
	c := &releaseContents{
		desired: d, names: slices.Sorted(maps.Keys(d.Cells)),
		features: map[releases.Digest][]string{}, common: map[[2]releases.Digest][]string{},
		waits: map[waitKey]announce.HeadWait{},
	}
	for _, r := range d.Releases {
		if r.Loaded && len(r.Faults) == 0 {
			c.features[r.Digest] = slices.Compact(slices.Sorted(slices.Values(r.Features)))
		}
	}
	return c
}

// commonFeatures returns the features in every release that may be running in a cell (R38). An unknown release contains
// none.
func (c *releaseContents) commonFeatures(s *plan.CellState) []string {
	var pair [2]releases.Digest
	if s.Running != nil {
		pair[0] = s.Running.Digest
	}
	if s.Applying != nil {
		pair[1] = s.Applying.Digest
	}
	features, known := c.common[pair]
	if !known {
		features = c.features[pair[0]]
		if pair[1] != "" && pair[0] != "" {
			features = slices.DeleteFunc(slices.Clone(features), func(f string) bool {
				_, there := slices.BinarySearch(c.features[pair[1]], f)
				return !there
			})
		}
		c.common[pair] = features
	}
	return features
}

// blockedReasons returns, by channel, what keeps a release from becoming its head.
func (c *releaseContents) blockedReasons(v *view.View) map[string]announce.HeadWait {
	reasons := map[string]announce.HeadWait{}
	for i := range v.Plan.Blocked {
		b := &v.Plan.Blocked[i]
		channel := v.Desired.Channels[b.Channel]
		if b.Cell != "" || b.Release == "" || reasons[b.Channel].Text != "" || channel == nil ||
			channel.Effective != nil && channel.Effective.Release == b.Release {
			continue
		}
		reasons[b.Channel] = c.describeWait(b)
	}
	return reasons
}

// describeWait returns a verdict in words: "soak until …", or words to follow a cell's name: "is paused by its owner".
func (c *releaseContents) describeWait(v *channels.Verdict) announce.HeadWait {
	key := waitKey{v.Gate, v.Reason, v.Code, v.Until}
	wait, known := c.waits[key]
	if known {
		return wait
	}
	why, until := v.Code.AfterName(v.Reason), ""
	if !v.Until.IsZero() {
		until = "until " + v.Until.UTC().Format("2006-01-02 15:04 MST")
	}
	switch {
	case v.Code == reason.OwnerPaused, v.Code == reason.OwnerPinned:
		wait = announce.HeadWait{Text: "is " + why, Owner: true}
	case v.Gate == "soak" && until != "":
		wait.Text = "soak " + until
	case until != "":
		wait.Text = v.Gate + ": " + why + ", " + until
	default:
		wait.Text = v.Gate + ": " + why
	}
	if len(c.waits) > maxWaits {
		clear(c.waits)
	}
	c.waits[key] = wait
	return wait
}

const maxWaits = 1000

// releasesInUse returns the releases that a cell runs or that are a channel's head, newest last.
func (c *releaseContents) releasesInUse(states map[string]*plan.CellState) (all []announce.Release) {
	used := map[string]bool{}
	for _, channel := range c.desired.Channels {
		if channel.Effective != nil {
			used[channel.Effective.Release] = true
		}
	}
	for _, name := range c.names {
		if s := states[name]; s != nil && s.Running != nil {
			used[s.Running.Release] = true
		}
	}
	for _, r := range c.desired.Versions {
		if version := r.Version.String(); used[version] {
			all = append(all, announce.Release{Version: version, Features: c.features[r.Digest]})
		}
	}
	return all
}
