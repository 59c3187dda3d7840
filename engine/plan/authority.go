package plan

import (
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Authority says who counts as the engine (R46), as the history made it: a commit is judged by the keys in force at its
// first parent.
type Authority struct {
	channels.EngineKeys
	// The newest commit that changed the list without the signature of a listed key; empty: the tip's list is in force.
	Ignored string
}

// amend takes the list that c, a commit that touched sluice.yaml, has.
func (a *Authority) amend(c releases.Change, listed channels.EngineKeys) {
	switch {
	case listed.Equal(a.EngineKeys):
		a.Ignored = ""
	case a.Trust(c.Key):
		*a = Authority{EngineKeys: listed}
	default:
		a.Ignored = c.Commit
	}
}

// fault returns what people should know about the list; nil: nothing.
func (a Authority) fault() *releases.Fault {
	switch {
	case a.Ignored != "":
		return &releases.Fault{
			File: pipelineFile, Code: manifest.Forbidden,
			Message: fmt.Sprintf(
				"engine was changed in %s, which no listed key signed: the keys listed before stay in force; put them back, or have the change signed by one of them",
				words.ShortCommit(a.Ignored)),
		}
	case a.Unsigned:
		return &releases.Fault{
			File: pipelineFile, Code: manifest.Unprotected, Warning: true,
			Message: "engine: unsigned: whoever may push to this branch may promote, and may replace a cell's key",
		}
	}
	return nil
}

// PipelinePushes is what refused pushes of sluice.yaml are kept under: no channel has such a name.
const PipelinePushes = "sluice/"

// adoptKey lists the engine's key in a repository that says nothing of keys yet, once and alone in its plan (R46). It
// reports whether it does.
func (p *planner) adoptKey() bool {
	if p.observed.Key == "" || p.desired.Authority.IsSet() || p.observed.Diverged != nil {
		return false
	}
	if p.desired.pipelineText == nil { // missing, or it can't be read
		p.block(channels.Blocked("push", reason.KeyUnlistable))
		return false
	}
	if p.isRefused(PipelinePushes, reason.KeyRefused, "", "") {
		return false
	}
	p.addAction(Action{Kind: Adopt, key: p.observed.Key})
	return true
}

// isUnlisted reports whether what this engine would push counts for nothing, and says so about a channel; empty: about
// all.
func (p *planner) isUnlisted(channel, release string) bool {
	if p.observed.Key == "" || p.desired.Authority.Trust(p.observed.Key) {
		return false
	}
	p.block(channels.Blocked("push", reason.KeyUnlisted, p.observed.Key).WithSubject(channel, release))
	return true
}

// draftAdoption is the commit that lists the engine's key. It names the heads that were not signed: from here on they
// count because it says so.
func draftAdoption(d *Desired, p Plan, a Action) (releases.Draft, error) {
	text, err := channels.SetEngineKeys(d.pipelineText, []string{a.key})
	if err != nil {
		return releases.Draft{}, err
	}
	var b strings.Builder
	b.WriteString(
		"list the engine's key\n\nFrom here on, what the engine writes counts only if it is signed. The heads so far stay as they are.\n\n")
	fmt.Fprintf(&b, "Engine-Key: %s\n", words.OneLine(a.key))
	for _, name := range d.Order {
		if e := d.Channels[name].Effective; e != nil {
			fmt.Fprintf(&b, "Adopts: %s %s sequence %d\n", name, words.OneLine(e.Release), e.Sequence)
		}
	}
	fmt.Fprintf(&b, "Decided-On: %s\n", p.Commit)
	return releases.Draft{Message: b.String(), When: p.Now, Files: map[string][]byte{pipelineFile: text}}, nil
}
