package plan

import (
	"fmt"
	"path"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Drafts turns a plan's git actions into commits, a chain on plan.Commit: one for each channel, one for cells'
// identities, and one for the audit. It is pure. No push may start after deadline, the earliest instant at which a
// verdict that the commits are based on ends; zero: no limit.
func Drafts(d *Desired, p Plan) (chain []releases.Draft, deadline time.Time, err error) {
	var order []string
	byChannel := map[string][]Action{}
	var identities *Action
	for i, a := range p.Actions {
		switch a.Kind {
		case Grant:
			continue
		case Adopt:
			draft, err := draftAdoption(d, p, a)
			return []releases.Draft{draft}, time.Time{}, err
		case CommitAudit:
			chain = append(chain, draftAudit(p, a))
			continue
		case Identify:
			identities = &p.Actions[i]
			continue
		}
		if byChannel[a.Channel] == nil {
			order = append(order, a.Channel)
		}
		byChannel[a.Channel] = append(byChannel[a.Channel], a)
		if !a.Deadline.IsZero() && (deadline.IsZero() || a.Deadline.Before(deadline)) {
			deadline = a.Deadline
		}
	}
	for _, name := range order {
		draft, err := draftChannel(d.Channels[name], p, byChannel[name])
		if err != nil {
			return nil, deadline, fmt.Errorf("write down what was decided for %s: %w", name, err)
		}
		chain = append(chain, draft)
	}
	if identities != nil { // last, so that no other commit depends on it
		draft, err := draftIdentities(d, p, *identities)
		if err != nil {
			return nil, deadline, fmt.Errorf("write down cells' identities: %w", err)
		}
		chain = append(chain, draft)
	}
	return chain, deadline, nil
}

// draftChannel returns one channel's commit: its head and decision, with the quarantine or hold that belongs to them.
func draftChannel(c *Channel, p Plan, actions []Action) (releases.Draft, error) {
	files := map[string][]byte{}
	out := releases.Draft{When: p.Now, Files: files, Tags: map[string]string{}}
	quarantined := ""
	for _, a := range actions {
		if a.Kind != Quarantine {
			continue
		}
		quarantined = a.Release
		data, err := yaml.Marshal(channels.Quarantine{
			Digest: a.Digest, Channels: a.Channels, Reason: words.OneLine(a.Reason), By: channels.EngineName,
			FailedIn: a.Channel,
		})
		if err != nil {
			return out, err
		}
		files[path.Join(channels.QuarantineDir, a.Release+".yaml")] = data
	}
	i := slices.IndexFunc(actions, func(a Action) bool { return a.Kind != Quarantine })
	if i < 0 {
		out.Message = actions[0].commitMessage(p.Commit, "", "")
		return out, nil
	}
	a := actions[i]
	a.Reason = words.OneLine(a.Reason) // a cell may have said it
	folder := path.Join(channels.Dir, c.Name)
	if a.Kind == Halt || a.Holds {
		file, reason := haltFileName(c.Effective.Sequence), a.Reason
		if a.Holds {
			file, reason = fmt.Sprintf("rollback-%d.yaml", a.Sequence), "rolled back by hand: "+a.Reason
		}
		data, err := yaml.Marshal(channels.Hold{Reason: reason, By: channels.EngineName})
		if err != nil {
			return out, err
		}
		files[path.Join(folder, "holds", file)] = data
	}
	if a.Kind == Halt {
		out.Message = a.commitMessage(p.Commit, "", quarantined)
		return out, nil
	}
	decision := decisionOf(c, p, a)
	data, err := decision.encode()
	if err != nil {
		return out, err
	}
	files[path.Join(folder, "head.yaml")] = encodeHead(decision.Head())
	files[path.Join(folder, "decision.json")] = data
	out.Tags[fmt.Sprintf("sluice/%s/%d", c.Name, a.Sequence)] = decision.Commit
	out.Message = a.commitMessage(p.Commit, HashOf(data), quarantined)
	return out, nil
}

func decisionOf(c *Channel, p Plan, a Action) Decision {
	d := Decision{
		Kind: a.Kind, Channel: c.Name, Base: p.Commit, Now: p.Now, Release: a.Release, Commit: a.Commit,
		Digest: a.Digest, Sequence: a.Sequence, From: a.From, Requested: a.Requested, Reason: a.Reason,
		Hotfix:  a.Hotfix,
		Forward: a.forwardOnly, Verdicts: evidenceOf(a.Verdicts), Accepted: a.Accepted, Flags: p.Flags,
	}
	if d.Commit == "" {
		d.Commit = p.Commit
	}
	if c.Valid != nil {
		d.Policy = c.Valid.Blob
	}
	if e := c.Effective; e != nil {
		d.Replaces = Replaced{Release: e.Release, Digest: e.Digest, Sequence: e.Sequence, Finished: a.Finished}
	}
	return d
}

func draftAudit(p Plan, a Action) releases.Draft {
	return releases.Draft{When: p.Now, Files: map[string][]byte{audithead.File: a.audit.Encode()},
		Message: fmt.Sprintf("audit: row %d\n\nRows up to this one that are removed or changed are found by comparing "+
			"the audit with it:\nsluice audit verify --repo.\n\nAudit: %d %s\n%s: %s\n", a.audit.Row, a.audit.Row,
			a.audit.Hash, releases.BaseTrailer, p.Commit)}
}
