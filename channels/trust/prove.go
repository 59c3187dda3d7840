package trust

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

// Prove says why the signers' files of a state do not prove that they allowed a release at an instant; nil: they do.
// What the engine signs is no part of it: whoever runs the control plane replaces that, and could spoil the proof.
func (s State) Prove(channel string, v releases.Version, digest releases.Digest, at time.Time) error {
	files, err := s.Files(channel)
	if err != nil {
		return err
	}
	t := Trusted{Channel: channel}
	for _, role := range []string{RoleRoot, RoleTargets, RoleReleases} {
		i := slices.IndexFunc(files, func(f *File) bool { return f.Role == role })
		if i < 0 {
			return refused(role, ErrMissing)
		}
		switch f := files[i]; {
		case !f.Complete():
			return refused(role, fmt.Errorf("has %s", f.Signatures()))
		case at.After(f.Expires):
			return refused(role, ErrExpired)
		case role == RoleTargets:
			t.Policy, err = readPolicy(f.targets.Signed.UnrecognizedFields)
		case role == RoleReleases:
			t.Listed, err = readReleases(f.targets.Signed.Targets)
		}
		if err != nil {
			return refused(role, err)
		}
	}
	return t.Check(v, digest)
}
