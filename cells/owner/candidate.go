package owner

import (
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// Candidate is a release that the control plane offers and the cell does not run.
type Candidate struct {
	Release string          `json:"release"`
	Digest  releases.Digest `json:"digest"`
	Channel string          `json:"channel,omitempty"`
}

// Candidates returns what can be approved, newest first: the channel's head, and what the cell was granted. Each may be
// nil, and so may what runs.
func Candidates(head *cells.Head, granted, running *cells.Assignment) []Candidate {
	var all []Candidate
	add := func(c Candidate) {
		if c.Digest != "" && (running == nil || running.Digest != c.Digest) && !slices.ContainsFunc(all,
			func(other Candidate) bool { return other.Digest == c.Digest }) {
			all = append(all, c)
		}
	}
	if head != nil {
		add(Candidate{head.Release, head.Digest, head.Channel})
	}
	if granted != nil {
		add(Candidate{granted.Release, granted.Digest, granted.Channel})
	}
	return all
}

// DigestToPin returns the digest of a version that runs, or else is offered; "": it does neither.
func DigestToPin(all []Candidate, running *cells.Assignment, version string) (releases.Digest, error) {
	if running != nil && running.Release == version {
		return running.Digest, nil
	}
	var found releases.Digest
	for _, c := range all {
		switch {
		case c.Release != version:
		case found != "" && found != c.Digest:
			return "", refuse("ask the vendor which one is right, and sluice cell pause meanwhile",
				"%s is offered with two digests, %s and %s", version, found, c.Digest)
		default:
			found = c.Digest
		}
	}
	return found, nil
}
