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

// moveHeads moves flags without an announcement through the channels (R42): a channel takes the tip's definitions once
// all answering cells of every upstream have had them in force for the soak. A channel without a head takes the tip's
// at once.
func (p *planner) moveHeads() {
	announced := p.announcedFeatures()
	tip := p.hashLooseFlags(p.input.Tip, announced)
	p.plan.Memory.Served = map[string]Served{}
	for _, c := range p.channels {
		c.baseTree, c.looseHash = p.input.Tip, tip
		head, hasHead := p.input.Tip.Heads[c.Name]
		if c.entry {
			continue
		}
		if !hasHead {
			c.writeHead("begin " + c.Name + "'s flags")
			continue
		}
		c.baseTree = p.treeAt(head.Commit)
		if c.baseTree == nil { // definitions that did not soak are better than none
			c.baseTree = p.input.Tip
			p.addFault(manifest.Unreadable, headPath(c),
				"commit "+head.Commit+" can't be read: "+c.Name+
					" has the newest definitions of flags without an announcement")
			continue
		}
		c.looseHash = p.hashLooseFlags(c.baseTree, announced)
	}
	for _, c := range p.channels {
		c.trackServed(tip)
	}
	for _, c := range p.channels {
		if _, hasHead := p.input.Tip.Heads[c.Name]; c.entry || !hasHead || c.looseHash == tip || p.input.Doubt != "" {
			continue
		}
		if c.hasSoaked(tip) {
			c.writeHead(fmt.Sprintf("move %s's flags to %.12s (%s in %s)", c.Name, p.input.Commit,
				time.Duration(p.input.Tip.Settings.Soak), strings.Join(c.After, ", ")))
		}
	}
}

// trackServed records since when every answering cell of a channel has had the tip's definitions. A plan that finds new
// definitions only sends them: reports show that cells have them from the next plan on.
func (c *channel) trackServed(tip string) {
	isUpstreamOf := func(down *channel) bool { return slices.Contains(down.After, c.Name) }
	if c.looseHash != tip || !slices.ContainsFunc(c.planner.channels, isUpstreamOf) {
		return
	}
	served, known := c.planner.input.Memory.Served[c.Name]
	switch known = known && served.Flags == tip; {
	case known && !served.Since.IsZero():
	case known && c.isCurrent():
		served.Since = c.planner.now
	default:
		served = Served{Flags: tip}
		if c.isCurrent() { // as of earlier definitions: plan again soon
			c.planner.isDue(c.planner.now.Add(time.Second))
		}
	}
	c.planner.plan.Memory.Served[c.Name] = served
}

// isCurrent reports whether all answering cells of c have in force what was sent. Of a channel with cells, at least one
// must answer.
func (c *channel) isCurrent() bool {
	anyCurrent := false
	for _, cell := range c.cells {
		if cell.Silent || !cell.Known {
			continue
		}
		if !cell.Current {
			return false
		}
		anyCurrent = true
	}
	return anyCurrent || len(c.cells) == 0
}

// hasSoaked reports whether every upstream of c has had the tip's definitions for the soak, and still has them.
func (c *channel) hasSoaked(tip string) bool {
	soak := time.Duration(c.planner.input.Tip.Settings.Soak)
	for _, name := range c.After {
		up, served := c.planner.channelsByName[name], c.planner.plan.Memory.Served[name]
		if up == nil || served.Flags != tip || served.Since.IsZero() || !c.planner.isDue(served.Since.Add(soak)) ||
			!up.isCurrent() {
			return false
		}
	}
	return true
}

func headPath(c *channel) string { return path.Join(repository.HeadsDir, c.Name+".yaml") }

func (c *channel) writeHead(why string) {
	c.planner.addWrite(headPath(c), repository.Head{Commit: c.planner.input.Commit}, why)
}

// announcedFeatures returns the features whose definitions move with an announcement.
func (p *planner) announcedFeatures() map[string]bool {
	features := map[string]bool{}
	for _, a := range p.input.Tip.Announcements {
		if !a.Archived { // flags left after archiving move as if they were never announced
			addNames(features, a.Features)
		}
	}
	return features
}

// hashLooseFlags hashes the definitions that move without an announcement.
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

// encodeDefinition caches d.Encode.
func (p *planner) encodeDefinition(d *flags.Definition) []byte {
	raw, ok := p.encoded[d]
	if !ok {
		raw = d.Encode()
		p.encoded[d] = raw
	}
	return raw
}
