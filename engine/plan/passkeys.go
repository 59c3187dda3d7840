package plan

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// foldAssertion completes what change f in commit c says about an approval whose file has a passkey's assertion. Such
// an approval is its passkey's owner's or nobody's: whoever made the commit proves nothing (R22). Passkeys are those in
// force at c's first parent, as with keys. An assertion counts once, where the branch has it first.
func (h *History) foldAssertion(a Approval, c releases.Change, f releases.FileChange, channel string,
	open func(string) (fs.FS, error), cache *manifest.Cache) (Approval, error) {
	files, err := open(c.Commit)
	if err != nil {
		return a, err
	}
	approval := channels.ParseApproval(cache, files, f.Path)
	if approval == nil || approval.Passkey == nil {
		return a, nil
	}
	a.Author, a.Person = releases.Person{}, ""
	var people map[string]*channels.Member
	if c.Parent != "" {
		pipeline, err := h.pipelineInForce(c.Parent, open, cache)
		if err != nil {
			return a, err
		}
		if pipeline != nil {
			people = pipeline.People
		}
	}
	verified, why := VerifyAssertion(people, channel, approval)
	if why == nil {
		why = h.Passkeys.Note(verified)
	}
	if why != nil {
		a.Refused = why.Error()
		return a, nil
	}
	a.Person = approval.Person
	return a, nil
}

// VerifyAssertion verifies that a passkey of the person whom an approval for a channel names made its assertion.
func VerifyAssertion(people map[string]*channels.Member, channel string, a *channels.ApprovalFile,
) (v passkey.Verified, err error) {
	statement := passkey.Statement{Channel: channel, Version: a.Release, Digest: string(a.Digest), Nonce: a.Passkey.Nonce}
	own := people[a.Person]
	err = passkey.ErrOther
	if own != nil {
		for _, k := range own.Passkeys {
			if v, err = k.Verify(*a.Passkey, statement); !errors.Is(err, passkey.ErrOther) {
				break
			}
		}
	}
	if errors.Is(err, passkey.ErrOther) {
		err = fmt.Errorf("it was made with a passkey that sluice.yaml does not list for %s", a.Person)
	}
	return v, err
}
