package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/releases"
)

// Offer is the newest desired state that the cell received, as the agent stores it for the cell's owner.
type Offer struct {
	Head       *cells.Head       `json:"head,omitempty"`       // newest head of the cell's channel; nil: not received
	Assignment *cells.Assignment `json:"assignment,omitempty"` // what the cell may have; nil: nothing yet
	Hold       *cells.Hold       `json:"hold,omitempty"`       // why the assignment is not the head
	Running    *cells.Assignment `json:"running,omitempty"`    // what is known to work; nil: nothing
	Waits      string            `json:"waits,omitempty"`      // why the owner forbids the assignment; empty: allowed
	Notices    []cells.Notice    `json:"notices,omitempty"`    // what the control plane says that the owner should know
}

func offerFile(dir string) string { return filepath.Join(dir, "offered.json") }

// LoadOffer reads what the control plane offers the cell of a state folder, and what the cell runs.
func LoadOffer(stateDir string) (Offer, error) {
	var o Offer
	info, err := os.Stat(offerFile(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err == nil && info.Size() > plane.MaxDesired {
		err = fmt.Errorf("it is larger than %d bytes", plane.MaxDesired)
	}
	if err != nil {
		return o, fmt.Errorf("read the offer: %w", err)
	}
	text, err := os.ReadFile(offerFile(stateDir)) //nolint:gosec // below the state folder
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return o, fmt.Errorf("read the offer: %w", err)
	}
	return o, nil
}

// saveOffer stores the offer for the owner's commands to show.
func (l *loop) saveOffer() error {
	d := l.lastDesired
	if d == nil {
		return nil
	}
	offer := Offer{Head: decodeHead(d.Head), Assignment: d.Assignment, Hold: d.Hold,
		Running: l.state.runningAssignment(), Waits: l.state.waitReason,
		Notices: ownersNotices(d.Notices)}
	l.preview.want(undecided(offer, l.state.owner.decisions))
	text, err := json.Marshal(offer)
	if err != nil || bytes.Equal(text, l.savedOffer) {
		return err
	}
	if err := disk.ReplaceFile(offerFile(l.agent.options.StateDir), text); err != nil {
		return fmt.Errorf("write the offer: %w", err)
	}
	l.savedOffer = text
	return nil
}

// ownersNotices returns the notices that are for the cell's owner to read.
func ownersNotices(all []cells.Notice) (theirs []cells.Notice) {
	for _, n := range all {
		if n.Code == cells.NoticeOutOfSupport || n.Code == cells.NoticeInfrastructure {
			theirs = append(theirs, n)
		}
	}
	return theirs
}

// decodeHead decodes a sealed head; nil: there is none, or its digest is wrong.
func decodeHead(s cells.Sealed) *cells.Head {
	var h cells.Head
	if len(s.Payload) == 0 || releases.DigestBytes(s.Payload) != s.Digest || json.Unmarshal(s.Payload, &h) != nil {
		return nil
	}
	return &h
}
