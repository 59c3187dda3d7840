package plan

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Decision is channels/X/decision.json: what the last move of the head was based on (R4). A decision can be checked
// later from the commit it stands in, without a database.
type Decision struct {
	Kind      Kind            `json:"kind"`
	Channel   string          `json:"channel"`
	Base      string          `json:"base"` // the commit that the plan read and that the decision was pushed onto
	Now       time.Time       `json:"now"`
	Policy    string          `json:"policy"` // object id of channel.yaml at Base
	Release   string          `json:"release"`
	Commit    string          `json:"commit"`
	Digest    releases.Digest `json:"digest"`
	Sequence  int64           `json:"sequence"`
	From      string          `json:"from,omitempty"`
	Replaces  Replaced        `json:"replaces,omitzero"`
	Requested string          `json:"requestedBy,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Hotfix    bool            `json:"hotfix,omitempty"`
	Forward   string          `json:"forwardOnly,omitempty"` // see EffectiveHead.Forward
	Verdicts  []Evidence      `json:"verdicts"`
	Accepted  []Acceptance    `json:"accepted,omitempty"` // downstreams' acceptances of the replaced head (R7)
	Flags     string          `json:"flags,omitempty"`    // the flags repository's commit that gates saw
}

// Evidence is a verdict as a decision records it.
type Evidence struct {
	Gate   string    `json:"gate"`
	Holds  bool      `json:"holds"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

func evidenceOf(verdicts []channels.Verdict) []Evidence {
	all := make([]Evidence, 0, len(verdicts))
	for _, v := range verdicts {
		all = append(all, Evidence{Gate: v.Gate, Holds: v.Holds, Reason: cleantext.Line(v.Reason), Until: v.Until})
	}
	return all
}

// Replaced is the head before the decision.
type Replaced struct {
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Sequence int64           `json:"sequence"`
	// The head had reached its cells, so a rollback may return to it (R19)
	Finished bool `json:"finished"`
}

func parseDecision(data []byte) (Decision, error) {
	var d Decision
	if err := json.Unmarshal(data, &d); err != nil {
		return Decision{}, fmt.Errorf("read decision.json: %w", err)
	}
	return d, nil
}

// encode returns decision.json as it is committed. The Decision trailer holds the hash of these bytes.
func (d Decision) encode() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write decision.json: %w", err)
	}
	return append(data, '\n'), nil
}

func (a Action) commitSubject() string {
	switch a.Kind {
	case Rollback:
		return fmt.Sprintf("roll back %s to %s", a.Channel, a.Release)
	case Halt:
		return fmt.Sprintf("halt %s at %s", a.Channel, a.Release)
	case Quarantine:
		return fmt.Sprintf("quarantine %s", a.Release)
	default:
		return fmt.Sprintf("%s %s to %s", a.Kind, a.Release, a.Channel)
	}
}

func (a Action) commitMessage(base, decision string, quarantined string) string {
	var b strings.Builder
	b.WriteString(a.commitSubject() + "\n\n")
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, words.OneLine(value))
		}
	}
	line("Release", a.Release)
	line("Digest", string(a.Digest))
	line("From", a.From)
	line("Replaces", a.Replaces)
	line("Requested-By", a.Requested)
	line("Reason", a.Reason)
	line("Quarantines", quarantined)
	for _, e := range a.Evidence {
		line("Gate", e)
	}
	line(releases.BaseTrailer, base)
	line("Decision", decision)
	return b.String()
}

// isJustified reports whether d can be what the engine decided, whoever signed it (R46): its release's commit is one
// that the history has for it, and its verdicts are those of the policy in force at its base.
func (h *History) isJustified(d Decision, open func(string) (fs.FS, error), cache *manifest.Cache) bool {
	return h.namesOrigin(d) && d.isComplete(h.policyAt(d, open, cache))
}

// namesOrigin reports whether d's commit is where the history has the release: the commit that brought it, the base, or
// that of an earlier head.
func (h *History) namesOrigin(d Decision) bool {
	if o := h.Releases[d.Release]; o == nil || o.Commit == d.Commit || d.Commit == d.Base {
		return o != nil
	}
	for _, past := range h.Channels {
		if slices.ContainsFunc(past.Heads, func(e EffectiveHead) bool {
			return e.Release == d.Release && e.Commit == d.Commit
		}) {
			return true
		}
	}
	return false
}

// policyAt returns the policy that d was decided by, its base's or the newest valid one before; nil: it can't be read
// any more.
func (h *History) policyAt(d Decision, open func(string) (fs.FS, error), cache *manifest.Cache) *channels.Channel {
	commits := slices.Clone(h.pastChannel(d.Channel).Policies)
	if _, withheld := h.Withheld[path.Join(channels.Dir, d.Channel, "channel.yaml")]; !withheld {
		commits = append(commits, d.Base)
	}
	return findValidPolicy(d.Channel, commits, open, cache)
}

// isComplete reports whether d has a verdict that holds for every gate of the policy that it had to pass.
func (d Decision) isComplete(policy *channels.Channel) bool {
	holds := func(gate string) bool {
		return slices.ContainsFunc(d.Verdicts, func(e Evidence) bool { return e.Gate == gate })
	}
	switch {
	case slices.ContainsFunc(d.Verdicts, func(e Evidence) bool { return !e.Holds }):
		return false
	case d.Kind != Promote, policy == nil:
		return true
	case holds("people"):
		return policy.People == channels.PeopleFree && d.Requested != ""
	case policy.Promote == channels.PromoteManual && d.Requested == "" && !d.Hotfix:
		return false
	case !d.Hotfix && len(policy.After) > 0 && !holds(upstreamGateID(policy)):
		return false
	}
	for _, g := range policy.Gates {
		if g.Soak == nil && !(d.Hotfix && g.AnyWindow() != nil) && !holds(g.ID) {
			return false
		}
	}
	return true
}
