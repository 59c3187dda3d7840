package cells

import (
	"errors"
	"time"
)

// SignaturesReport says that a cell has a root of trust, and begins only what release signers signed.
type SignaturesReport struct {
	Root     int64     `json:"root"`              // number of its newest root; 0: it only has the digest of one
	Verified time.Time `json:"verified,omitzero"` // when a verification passed last, by the time that the cell goes by
	Until    time.Time `json:"until,omitzero"`    // what it verified then expires then; afterwards it asks anew
	Flags    bool      `json:"flags,omitempty"`   // bundles of flags are verified too: the signers' policy says so
	Damaged  bool      `json:"damaged,omitempty"` // what the cell knew can't be read any more: nothing new begins
}

func (s *SignaturesReport) validate() error {
	if s != nil && s.Root < 0 {
		return errors.New("the number of a root is not negative")
	}
	return nil
}
