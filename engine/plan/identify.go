package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const (
	IdentityFile = "identity.yaml"
	cellFile     = "cell.yaml"
	// Key of refused pushes of identities in Observed.Refused; no channel can have this name
	IdentityPushes = "cells/"
	maxIdentified  = 1000 // cells in one commit

	identifyDelay = time.Second // cells that register within this time of the first share a commit
)

// identifyCells writes registrations that git lacks into the cells' files, one commit for all (R25). It adds no action
// to a plan with other commits: a host that refuses a head must not hold up identities, nor the other way round.
func (p *planner) identifyCells() {
	if p.observed.Diverged != nil {
		return
	}
	var due []Registration
	var oldest time.Time
	for name, r := range p.observed.Registered {
		if cell := p.desired.Cells[name]; cell != nil && r.Identity.Serial > cell.Identity.Serial {
			due = append(due, r)
			if oldest.IsZero() || r.At.Before(oldest) {
				oldest = r.At
			}
		}
	}
	if len(due) == 0 || slices.ContainsFunc(p.plan.Actions, func(a Action) bool { return a.Kind != Grant }) {
		return
	}
	if p.isUnlisted("", "") {
		return
	}
	if r, ok := p.observed.Refused[IdentityPushes]; ok && r.Until.After(p.now) {
		p.block(channels.Blocked("push", reason.IdentitiesRefused, r.Reason).WithUntil(r.Until))
		return
	}
	if commitAt := oldest.Add(identifyDelay); !oldest.After(p.now) && commitAt.After(p.now) {
		p.replanAt(commitAt)
		return
	}
	slices.SortFunc(due, func(a, b Registration) int { return strings.Compare(a.Cell, b.Cell) })
	due = due[:min(len(due), maxIdentified)]
	a := Action{Kind: Identify, registrations: due}
	for _, r := range due {
		a.Cells = append(a.Cells, r.Cell)
	}
	p.addAction(a)
}

func draftIdentities(d *Desired, p Plan, a Action) (releases.Draft, error) {
	out := releases.Draft{When: p.Now, Files: map[string][]byte{}}
	var text strings.Builder
	if len(a.registrations) == 1 {
		fmt.Fprintf(&text, "identify %s\n\n", a.registrations[0].Cell)
	} else {
		fmt.Fprintf(&text, "identify %s\n\n", words.Count(len(a.registrations), "cell"))
	}
	for _, r := range a.registrations {
		data, err := yaml.Marshal(r.Identity)
		if err != nil {
			return out, err
		}
		out.Files[path.Join(cells.Dir, r.Cell, IdentityFile)] = data
		fmt.Fprintf(&text, "Cell: %s %s\n", r.Cell,
			words.OneLine(describeChange(d.Cells[r.Cell].Identity, r.Identity)+", by "+r.By))
	}
	fmt.Fprintf(&text, "Decided-On: %s\n", p.Commit)
	out.Message = text.String()
	return out, nil
}

func describeChange(a, b cells.Identity) string {
	var what []string
	say := func(yes bool, text string) {
		if yes {
			what = append(what, text)
		}
	}
	say(b.Quarantined != "" && a.Quarantined != b.Quarantined, "quarantined: "+b.Quarantined)
	say(b.Revoked && !a.Revoked, "revoked")
	say(a.Revoked && !b.Revoked, "not revoked any more")
	say(a.Quarantined != "" && b.Quarantined == "", "not quarantined any more")
	say(a.PublicKey == "" && b.PublicKey != "", "registered")
	say(a.PublicKey != "" && a.PublicKey != b.PublicKey, "has a new key")
	say(a.Previous != "" && b.Previous == "", "uses its new key only")
	say(b.Rotate && !a.Rotate, "is asked for a new key")
	if len(what) == 0 {
		return fmt.Sprintf("at serial %d", b.Serial)
	}
	return strings.Join(what, ", ")
}

// IdentityOf returns the identity in force of a cell: git's, or the newest registration if its serial is greater. A
// cell that the repository lacks has none.
func IdentityOf(d *Desired, registered map[string]Registration, name string) cells.Identity {
	cell := d.Cells[name]
	if cell == nil {
		return cells.Identity{}
	}
	if r, ok := registered[name]; ok && r.Identity.Serial > cell.Identity.Serial {
		return r.Identity
	}
	return cell.Identity
}
