package edits

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Proposal is the commit that a decision would make, as people see it before it is made.
type Proposal struct {
	Edit
	Base   string            // the commit that it is decided on
	Before map[string][]byte // the files of Edit as they are; those that are not there are missing
	Seen   string            // what else the person sees, and decides on; empty: nothing
	Sign   *Challenge        // a passkey of the person's signs it first; nil: it is made as it is
}

// After returns the files of Edit as they will be; those that are removed are missing.
func (p Proposal) After() map[string][]byte {
	after := map[string][]byte{}
	for name, data := range p.Files {
		if data != nil {
			after[name] = data
		}
	}
	return after
}

// Digest identifies what the person sees: the message, and each file before and after.
func (p Proposal) Digest() string {
	// Maps are encoded by their keys' order, and these types always encode.
	text, _ := json.Marshal([]any{p.Message, p.Before, p.Files, p.Seen})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// ErrChanged means that the commit would not be the one that the person saw. Nothing was committed.
var ErrChanged = errors.New("the repository changed, so that the commit would be another than was shown")

// Propose returns the commit that Push would make now.
func (p Pusher[S]) Propose(ctx context.Context, d Decision[S]) (Proposal, error) {
	e, s, err := p.decide(ctx, d, time.Now())
	if err != nil {
		return Proposal{}, err
	}
	return p.propose(e, s)
}

func (p *Pusher[S]) propose(e Edit, s S) (Proposal, error) {
	proposal := Proposal{Edit: e, Base: s.Base(), Before: map[string][]byte{}}
	if p.See != nil {
		proposal.Seen = p.See(s)
	}
	for name := range e.Files {
		switch data, err := fs.ReadFile(s.Content(), name); {
		case err == nil:
			proposal.Before[name] = data
		case !errors.Is(err, fs.ErrNotExist):
			return Proposal{}, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return proposal, nil
}

// PushProposed commits a decision if the commit is the one whose digest its person saw: else ErrChanged, and the commit
// that would be made now. Other commits meanwhile do not matter.
func (p Pusher[S]) PushProposed(ctx context.Context, d Decision[S], digest string) (Result, Proposal, error) {
	var now Proposal
	done, err := p.push(ctx, d, func(e Edit, s S) (err error) {
		if now, err = p.propose(e, s); err == nil && now.Digest() != digest {
			err = ErrChanged
		}
		return err
	})
	return done, now, err
}
