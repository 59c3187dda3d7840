package announce

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// moveHeads has flags without an announcement pass the channels (R42): a channel takes the tip's once all cells of every
// upstream that answer have had them in force for the soak. A channel without a head takes the tip's at once.
func (p *planner) moveHeads() {
	announced := p.announced()
	tip := p.loose(p.in.Tip, announced)
	p.plan.Memory.Served = map[string]Served{}
	for _, c := range p.channels {
		c.base, c.loose = p.in.Tip, tip
		head, begun := p.in.Tip.Heads[c.Name]
		if c.entry {
			continue
		}
		if !begun {
			c.head("begin " + c.Name + "'s flags")
			continue
		}
		c.base = p.tree(head.Commit)
		if c.base == nil { // the tip's, unsoaked, beat none at all
			c.base = p.in.Tip
			p.fault(manifest.Unreadable, headPath(c), "commit "+head.Commit+" can't be read: "+c.Name+" has the newest definitions of flags without an announcement")
			continue
		}
		c.loose = p.loose(c.base, announced)
	}
	for _, c := range p.channels {
		c.serve(tip)
	}
	for _, c := range p.channels {
		if _, begun := p.in.Tip.Heads[c.Name]; c.entry || !begun || c.loose == tip || p.in.Doubt != "" {
			continue
		}
		if c.soaked(tip) {
			c.head(fmt.Sprintf("move %s's flags to %.12s (%s in %s)", c.Name, p.in.Commit, time.Duration(p.in.Tip.Settings.Soak), strings.Join(c.After, ", ")))
		}
	}
}

// serve goes on counting since when a channel has the tip's definitions. Cells were told them by the last plan that knew them,
// so only what they report from then on counts.
func (c *channel) serve(tip string) {
	if c.loose != tip || !slices.ContainsFunc(c.p.channels, func(down *channel) bool { return slices.Contains(down.After, c.Name) }) {
		return
	}
	old, told := c.p.in.Memory.Served[c.Name]
	switch told = told && old.Flags == tip; {
	case told && !old.Since.IsZero():
	case told && c.current():
		old.Since = c.p.now
	default:
		old = Served{Flags: tip}
		if c.current() { // of what it was told before, or of this: the next plan knows
			c.p.reached(c.p.now.Add(time.Second))
		}
	}
	c.p.plan.Memory.Served[c.Name] = old
}

// current reports whether all cells of c that answer have in force what they were told. Of a channel that has cells, some must.
func (c *channel) current() bool {
	some := false
	for _, cell := range c.cells {
		if cell.Silent || !cell.Known {
			continue
		}
		if !cell.Current {
			return false
		}
		some = true
	}
	return some || len(c.cells) == 0
}

// soaked reports whether every upstream of c has had the tip's definitions for the soak, and has them still.
func (c *channel) soaked(tip string) bool {
	soak := time.Duration(c.p.in.Tip.Settings.Soak)
	for _, name := range c.After {
		up, served := c.p.named[name], c.p.plan.Memory.Served[name]
		if up == nil || served.Flags != tip || served.Since.IsZero() || !c.p.reached(served.Since.Add(soak)) || !up.current() {
			return false
		}
	}
	return true
}

func headPath(c *channel) string { return path.Join(repository.HeadsDir, c.Name+".yaml") }

func (c *channel) head(why string) {
	c.p.write(headPath(c), repository.Head{Commit: c.p.in.Commit}, why)
}

// announced gives the features whose definitions pass with an announcement.
func (p *planner) announced() map[string]bool {
	features := map[string]bool{}
	for _, a := range p.in.Tip.Announcements {
		if !a.Archived { // what is left of them goes as others do
			add(features, a.Features)
		}
	}
	return features
}

// loose hashes the definitions that pass without an announcement.
func (p *planner) loose(t *repository.Tree, announced map[string]bool) string {
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(t.Flags)) {
		if d := t.Flags[key]; !announced[d.Feature()] {
			fmt.Fprintf(sum, "%q ", key)
			sum.Write(p.encode(d))
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// encode is d.Encode, once for a definition.
func (p *planner) encode(d *flags.Definition) []byte {
	raw, ok := p.encoded[d]
	if !ok {
		raw = d.Encode()
		p.encoded[d] = raw
	}
	return raw
}
