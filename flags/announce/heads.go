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
	announced := p.announcedFeatures()
	tip := p.hashLooseFlags(p.input.Tip, announced)
	p.plan.Memory.Served = map[string]Served{}
	for _, c := range p.channels {
		c.baseTree, c.looseHash = p.input.Tip, tip
		head, begun := p.input.Tip.Heads[c.Name]
		if c.entry {
			continue
		}
		if !begun {
			c.writeHead("begin " + c.Name + "'s flags")
			continue
		}
		c.baseTree = p.treeAt(head.Commit)
		if c.baseTree == nil { // the tip's, unsoaked, beat none at all
			c.baseTree = p.input.Tip
			p.addFault(manifest.Unreadable, headPath(c), "commit "+head.Commit+" can't be read: "+c.Name+" has the newest definitions of flags without an announcement")
			continue
		}
		c.looseHash = p.hashLooseFlags(c.baseTree, announced)
	}
	for _, c := range p.channels {
		c.trackServed(tip)
	}
	for _, c := range p.channels {
		if _, begun := p.input.Tip.Heads[c.Name]; c.entry || !begun || c.looseHash == tip || p.input.Doubt != "" {
			continue
		}
		if c.hasSoaked(tip) {
			c.writeHead(fmt.Sprintf("move %s's flags to %.12s (%s in %s)", c.Name, p.input.Commit, time.Duration(p.input.Tip.Settings.Soak), strings.Join(c.After, ", ")))
		}
	}
}

// trackServed goes on counting since when a channel has the tip's definitions. Cells were told them by the last plan that knew them,
// so only what they report from then on counts.
func (c *channel) trackServed(tip string) {
	if c.looseHash != tip || !slices.ContainsFunc(c.planner.channels, func(down *channel) bool { return slices.Contains(down.After, c.Name) }) {
		return
	}
	old, told := c.planner.input.Memory.Served[c.Name]
	switch told = told && old.Flags == tip; {
	case told && !old.Since.IsZero():
	case told && c.isCurrent():
		old.Since = c.planner.now
	default:
		old = Served{Flags: tip}
		if c.isCurrent() { // of what it was told before, or of this: the next plan knows
			c.planner.reached(c.planner.now.Add(time.Second))
		}
	}
	c.planner.plan.Memory.Served[c.Name] = old
}

// isCurrent reports whether all cells of c that answer have in force what they were told. Of a channel that has cells, some must.
func (c *channel) isCurrent() bool {
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

// hasSoaked reports whether every upstream of c has had the tip's definitions for the soak, and has them still.
func (c *channel) hasSoaked(tip string) bool {
	soak := time.Duration(c.planner.input.Tip.Settings.Soak)
	for _, name := range c.After {
		up, served := c.planner.channelsByName[name], c.planner.plan.Memory.Served[name]
		if up == nil || served.Flags != tip || served.Since.IsZero() || !c.planner.reached(served.Since.Add(soak)) || !up.isCurrent() {
			return false
		}
	}
	return true
}

func headPath(c *channel) string { return path.Join(repository.HeadsDir, c.Name+".yaml") }

func (c *channel) writeHead(why string) {
	c.planner.addWrite(headPath(c), repository.Head{Commit: c.planner.input.Commit}, why)
}

// announcedFeatures gives the features whose definitions pass with an announcement.
func (p *planner) announcedFeatures() map[string]bool {
	features := map[string]bool{}
	for _, a := range p.input.Tip.Announcements {
		if !a.Archived { // what is left of them goes as others do
			addNames(features, a.Features)
		}
	}
	return features
}

// hashLooseFlags hashes the definitions that pass without an announcement.
func (p *planner) hashLooseFlags(t *repository.Tree, announced map[string]bool) string {
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(t.Flags)) {
		if d := t.Flags[key]; !announced[d.Feature()] {
			fmt.Fprintf(sum, "%q ", key)
			sum.Write(p.encodeDefinition(d))
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// encodeDefinition is d.Encode, once for a definition.
func (p *planner) encodeDefinition(d *flags.Definition) []byte {
	raw, ok := p.encoded[d]
	if !ok {
		raw = d.Encode()
		p.encoded[d] = raw
	}
	return raw
}
