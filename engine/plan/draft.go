package plan

import (
	"fmt"
	"path"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Drafts turns a plan's git actions into commits, a chain on plan.Commit: one for each channel, one for cells'
// identities, and one for the audit. It is pure. No push may start after deadline, the earliest instant at which a
// verdict that the commits are based on ends; zero: no limit. by signs heads for cells; nil: they stay unsigned.
func Drafts(d *Desired, p Plan, by *trust.Signer) (chain []releases.Draft, deadline time.Time, err error) {
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
		case SignHeads:
			draft, err := draftHeads(d, p, a, by)
			if err != nil || len(draft.Files) == 0 {
				return nil, time.Time{}, err
			}
			chain = append(chain, draft)
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
		draft, err := draftChannel(d, d.Channels[name], p, byChannel[name], by)
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
func draftChannel(d *Desired, c *Channel, p Plan, actions []Action, by *trust.Signer) (releases.Draft, error) {
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
	signed, err := d.signedHead(c.Name, a.Release, a.Digest, p.Now, by)
	if err != nil {
		return out, err
	}
	if signed != nil {
		files[trust.HeadFileName(c.Name)] = signed
	}
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

// HeadPushes is what refused pushes of signed heads are kept under in Observed.Refused: no channel has that name.
const HeadPushes = "trust/"

// signHeads signs the heads of channels that need signatures, where a promotion did not do so: for the first time, and
// before a signature expires. It does so alone in its plan: what else the engine decides must not wait for it.
func (p *planner) signHeads() {
	l := p.desired.Trust
	if l == nil || p.observed.Key == "" || p.observed.Diverged != nil {
		return
	}
	var due []string
	for _, name := range p.desired.Order {
		head := p.desired.Channels[name].Effective
		if head == nil || !l.MaySignHead(name, p.observed.Key) || !p.desired.isListed(name, head.Release, head.Digest) {
			continue
		}
		if at, now := p.desired.SignedHeads[name].IsDue(head.Digest, p.now); now {
			due = append(due, name)
		} else {
			p.replanAt(at)
		}
	}
	if len(due) == 0 || p.hasCommits() || p.isUnlisted("", "") ||
		p.isRefused(HeadPushes, reason.HeadsUnsigned, "", "") {
		return
	}
	p.addAction(Action{Kind: SignHeads, Channels: due, Reason: "the heads of " + words.Some(due, 8)})
}

// isListed reports whether the signers allow a release as a channel's head.
func (d *Desired) isListed(channel, release string, digest releases.Digest) bool {
	v, err := releases.ParseVersion(release)
	return err == nil && d.Trust.Obstacle(channel, v, digest) == ""
}

// signedHead returns the signed head of a release in a channel; nil: the channel needs no signature, or the engine has
// no key that may sign it.
func (d *Desired) signedHead(
	channel, release string, digest releases.Digest, now time.Time, by *trust.Signer,
) ([]byte, error) {
	if by == nil || d.Trust == nil || !d.Trust.MaySignHead(channel, trust.Key{Public: by.Public}.Line()) ||
		!d.isListed(channel, release, digest) {
		return nil, nil
	}
	v, err := releases.ParseVersion(release)
	if err != nil {
		return nil, err
	}
	return d.Trust.SignHead(channel, v, d.SignedHeads[channel], now, *by)
}

// draftHeads is the commit of signed heads alone.
func draftHeads(d *Desired, p Plan, a Action, by *trust.Signer) (releases.Draft, error) {
	files := map[string][]byte{}
	for _, name := range a.Channels {
		head := d.Channels[name].Effective
		data, err := d.signedHead(name, head.Release, head.Digest, p.Now, by)
		if err != nil {
			return releases.Draft{}, err
		}
		if data != nil {
			files[trust.HeadFileName(name)] = data
		}
	}
	return releases.Draft{When: p.Now, Files: files, Message: fmt.Sprintf("trust: sign %s\n\n%s: %s\n", a.Reason,
		releases.BaseTrailer, p.Commit)}, nil
}
