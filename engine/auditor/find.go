package auditor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	ownerGap      = 10 * time.Minute // the least time between two rows of one cell's owner
	commitOverlap = time.Hour        // by which commits' times may be out of order
	maxTold       = 500              // commits that are remembered one by one
	maxNamed      = 10               // cells, or features, that a row names
	maxWindows    = 4                // windows that a row has in words
)

// memo is what is remembered of one subject of rows: a cell's owner, a kill, or the commits of keys.
type memo struct {
	Entry  access.Entry `json:"entry"`            // the newest row
	Stored bool         `json:"stored"`           // false: a crash may have come before the row was stored
	Digest string       `json:"digest,omitempty"` // of an owner's decisions
	// Of commits of keys: those up to Since have rows, and those in Told, by the time of their commit.
	Since time.Time            `json:"since,omitzero"`
	Told  map[string]time.Time `json:"told,omitempty"`
}

// finding is a row that is due, and what is to be remembered with it.
type finding struct {
	key  string
	memo memo
}

const (
	commitsKey  = "commits"
	ownerPrefix = "owner/"
	killPrefix  = "kill/"
)

// findOwners returns the rows of owners whose decisions, as their cells report them, differ from the last row. A cell
// that changes them all the time has a row in ten minutes; next is when one is due that has to wait.
func findOwners(d *plan.Desired, states map[string]*plan.CellState, known map[string]memo, now time.Time) (
	found []finding, next time.Time) {
	for _, name := range slices.Sorted(maps.Keys(states)) {
		s := states[name]
		before, had := known[ownerPrefix+name]
		if d.Cells[name] == nil || s.LastReport.IsZero() {
			continue
		}
		digest := digestOwner(s.Owner)
		if before.Digest == digest {
			continue
		}
		if due := before.Entry.At.Add(ownerGap); had && due.After(now) && !before.Entry.At.After(now) {
			if next.IsZero() || due.Before(next) {
				next = due
			}
			continue
		}
		found = append(found, finding{ownerPrefix + name, memo{Digest: digest, Entry: audit.Clip(access.Entry{At: now,
			Who: "the owner of cell " + name, What: describeOwner(s.Owner), From: "the cell's report"})}})
	}
	return found, next
}

// digestOwner identifies decisions; empty: there are none.
func digestOwner(o *cells.Owner) string {
	if o == nil {
		return ""
	}
	text, err := json.Marshal(o)
	if err != nil || string(text) == "{}" { // there is no error: it came as JSON
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// describeOwner returns decisions in words. The words are the cell's, and so are cleaned and short.
func describeOwner(o *cells.Owner) string {
	var all []string
	say := func(yes bool, format string, args ...any) {
		if yes {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	if o != nil {
		say(o.Paused != "", "paused: %s", words.OneLine(o.Paused))
		say(o.Pin != "", "pinned to %s", words.OneLine(o.Pin))
		newest := ""
		if n := len(o.Approved); n > 0 {
			newest = ", the newest " + string(o.Approved[n-1])
		}
		say(o.Approval, "each release needs approval, so far %s%s", words.Count(len(o.Approved), "release"), newest)
		for _, w := range o.Windows[:min(len(o.Windows), maxWindows)] {
			say(true, "begins only in the window %s for %s %s", words.OneLine(w.Opens), w.For, words.OneLine(w.Zone))
		}
		say(len(o.Windows) > maxWindows, "and in %s more", words.Count(len(o.Windows)-maxWindows, "window"))
		for _, f := range o.Features[:min(len(o.Features), maxNamed)] {
			why := words.OneLine(o.Reasons[f])
			say(true, "holds the feature %s", strings.TrimSuffix(words.OneLine(f)+": "+why, ": "))
		}
		say(len(o.Features) > maxNamed, "and %s more", words.Count(len(o.Features)-maxNamed, "feature"))
	}
	if len(all) == 0 {
		return "decided nothing any more"
	}
	return "decided: " + strings.Join(all, "; ")
}

// findCommits returns a row for each commit of cells' keys and revocations that has none.
func findCommits(d *plan.Desired, before memo, now time.Time) (found []finding) {
	type commit struct {
		at    time.Time
		lines []string
	}
	all := map[string]*commit{}
	for _, name := range slices.Sorted(maps.Keys(d.Cells)) {
		for _, k := range d.Cells[name].KeyChanges {
			if _, told := before.Told[k.Commit]; told || !k.At.After(before.Since) {
				continue
			}
			c := all[k.Commit]
			if c == nil {
				c = &commit{at: k.At}
				all[k.Commit] = c
			}
			c.lines = append(c.lines, "cell "+name+" "+k.What)
		}
	}
	m := before
	for _, id := range slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if n := all[a].at.Compare(all[b].at); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	}) {
		c := all[id]
		m = m.withCommit(id, c.at, now)
		more := ""
		if n := len(c.lines) - maxNamed; n > 0 {
			more = fmt.Sprintf("; and %d more", n)
		}
		m.Entry, m.Stored = audit.Clip(access.Entry{At: now, Who: whoCommits, What: "commit " + id +
			" of the release repository: " + strings.Join(c.lines[:min(len(c.lines), maxNamed)], "; ") + more}), false
		found = append(found, finding{commitsKey, m})
	}
	return found
}

// whoCommits is who the rows of commits are of; they say who asked for what is in the commit.
const whoCommits = "the control plane"

// withCommit returns m with a commit in it. Only the commits of the last hour are remembered one by one; a commit from
// the future does not move that hour.
func (m memo) withCommit(id string, at, now time.Time) memo {
	told := maps.Clone(m.Told)
	if told == nil {
		told = map[string]time.Time{}
	}
	told[id] = at
	newest := at
	if newest.After(now) {
		newest = now
	}
	if since := newest.Add(-commitOverlap); since.After(m.Since) {
		m.Since = since
	}
	if len(told) > maxTold {
		if since := slices.SortedFunc(maps.Values(told), time.Time.Compare)[len(told)-maxTold-1]; since.After(m.Since) {
			m.Since = since
		}
	}
	maps.DeleteFunc(told, func(_ string, at time.Time) bool { return !at.After(m.Since) })
	m.Told = told
	return m
}

// findKills returns a row for each kill that is committed and has none.
func findKills(kills []plan.Kill, known map[string]memo, now time.Time) (found []finding) {
	for _, k := range kills {
		key := killPrefix + k.ID
		if _, told := known[key]; told || k.Landed == "" {
			continue
		}
		found = append(found, finding{key, memo{Entry: audit.Clip(access.Entry{At: now, Who: whoCommits,
			What: "commit " + k.Landed + " of the flags repository: kill the flag " + words.OneLine(k.Override.Flag) +
				", by " + words.OneLine(k.Override.By)})}})
	}
	return found
}
