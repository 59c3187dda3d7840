package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Decision is channels/X/decision.json: what the last move of the head saw (R4). With the
// commit it stands in it is enough to check the decision later, without any database.
type Decision struct {
	Kind      Kind            `json:"kind"`
	Channel   string          `json:"channel"`
	Base      string          `json:"base"` // the commit that the plan read, and that this was pushed onto
	Now       time.Time       `json:"now"`
	Policy    string          `json:"policy"` // object id of channel.yaml at base
	Release   string          `json:"release"`
	Commit    string          `json:"commit"`
	Digest    releases.Digest `json:"digest"`
	Sequence  int64           `json:"sequence"`
	From      string          `json:"from,omitempty"`
	Replaces  Replaced        `json:"replaces,omitzero"`
	Requested string          `json:"requestedBy,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Hotfix    bool            `json:"hotfix,omitempty"`
	Forward   string          `json:"forwardOnly,omitempty"` // the greatest forward-only release above the replaced one, up to this (R20)
	Verdicts  []Evidence      `json:"verdicts"`
	Accepted  []Acceptance    `json:"accepted,omitempty"` // what downstreams had accepted of the replaced head (R7)
	Flags     string          `json:"flags,omitempty"`    // commit of the flags repository, observed
}

// Evidence is a verdict as a decision keeps it.
type Evidence struct {
	Gate   string    `json:"gate"`
	Holds  bool      `json:"holds"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

func evidenceOf(verdicts []channels.Verdict) []Evidence {
	all := make([]Evidence, 0, len(verdicts))
	for _, v := range verdicts {
		all = append(all, Evidence{Gate: v.Gate, Holds: v.Holds, Reason: v.Reason, Until: v.Until})
	}
	return all
}

// Replaced is the head before.
type Replaced struct {
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Sequence int64           `json:"sequence"`
	Finished bool            `json:"finished"` // it had reached its cells: a rollback may go back to it (R19)
}

func parseDecision(data []byte) (Decision, error) {
	var d Decision
	if err := json.Unmarshal(data, &d); err != nil {
		return Decision{}, fmt.Errorf("read decision.json: %w", err)
	}
	return d, nil
}

// encode is decision.json as it is committed: the bytes that the Decision trailer hashes.
func (d Decision) encode() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write decision.json: %w", err)
	}
	return append(data, '\n'), nil
}

// commitSubject is the first line of the commit.
func (a Action) commitSubject() string {
	switch a.Kind {
	case Rollback:
		return fmt.Sprintf("roll back %s to %s", a.Channel, a.Release)
	case Halt:
		return fmt.Sprintf("halt %s at %s", a.Channel, a.Release)
	case Quarantines:
		return fmt.Sprintf("quarantine %s", a.Release)
	default:
		return fmt.Sprintf("%s %s to %s", a.Kind, a.Release, a.Channel)
	}
}

// commitMessage is the commit's text: the subject and, as trailers, what the decision rests on.
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
	line("Decided-On", base)
	line("Decision", decision)
	return b.String()
}
