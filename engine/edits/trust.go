package edits

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/flags/signed"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// FoundTrust makes a repository's first trust files. From when enough signers signed them, the channels that they name
// take only releases that signers signed. What these channels run, and may go back to, is signed with them.
type FoundTrust struct {
	Signer    trust.Signer
	Signers   []trust.Key
	Threshold int
	Engine    []trust.Key // online; empty: the engine's keys in sluice.yaml
	Channels  []string    // empty: all
	Floor     releases.Version
}

func (f FoundTrust) Message() (subject, body string) { return "found the trust of signed releases", "" }

// Edit writes version 1 of each file, with one signature.
func (f FoundTrust) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	if l := s.Desired.Trust; l != nil && (l.Root() != nil || len(l.Waiting) > 0) {
		return Edit{}, Fail(errors.New("the repository has signers already"), "sluice trust status")
	}
	engine := f.Engine
	if len(engine) == 0 {
		var err error
		if engine, err = s.engineTrustKeys(); err != nil {
			return Edit{}, Fail(err, "name a key of the engine's: --engine-key")
		}
	}
	if len(engine) == 0 {
		return Edit{}, Fail(errors.New("sluice.yaml lists no key of the engine's yet"),
			"start sluice serve once, which lists it, or name one: --engine-key")
	}
	names := f.Channels
	if len(names) == 0 {
		names = s.Desired.Order
	}
	for _, name := range names {
		if _, err := s.Channel(name); err != nil {
			return Edit{}, err
		}
	}
	d, err := s.draftTrust(now)
	if err != nil {
		return Edit{}, err
	}
	if err := d.Found(trust.Foundation{Signers: f.Signers, Threshold: f.Threshold, Online: engine, Channels: names,
		Floor: f.Floor}); err != nil {
		return Edit{}, Fail(err, "sluice help trust init")
	}
	for _, name := range names {
		c := s.Desired.Channels[name]
		for _, h := range c.History[max(0, len(c.History)-plan.RollbackReach):] {
			r, err := s.signedRelease(h.Release, []string{name})
			if err != nil || r.Digest != h.Digest || !f.Floor.IsZero() && r.Version.Less(f.Floor) {
				continue // it is no way back, and not signed
			}
			if _, err := d.List(r); err != nil {
				return Edit{}, Fail(err, "sluice trust init --floor V leaves older releases out")
			}
		}
	}
	return s.finishTrust(d, f.Signer)
}

// SignTrust signs what waits for signatures, after it listed releases.
type SignTrust struct {
	Signer   trust.Signer
	Releases []string
	Channels []string // that the releases may run in; empty: all that need signatures

	// Flags is the flags repository, of whose definitions and announcements bundles may consist; nil: it is not signed.
	Flags      *repository.Tree
	NewestOnly bool // what was signed of flags before, and Flags does not say, may not be served any more
}

func (t SignTrust) Message() (subject, body string) {
	switch {
	case len(t.Releases) == 0 && t.Flags != nil:
		return "sign flags", ""
	case len(t.Releases) == 0:
		return "sign the trust files", ""
	}
	return "sign " + strings.Join(t.Releases, ", "), ""
}

// Edit lists the releases, if they are not yet, and adds the signature.
func (t SignTrust) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	d, err := s.draftTrust(now)
	if err != nil {
		return Edit{}, err
	}
	names := t.Channels
	if len(names) == 0 {
		names = s.Desired.Trust.Channels()
	}
	for _, version := range t.Releases {
		if len(names) == 0 {
			return Edit{}, Fail(errors.New("the first trust files still wait for signatures"), "sign them first: sluice trust sign")
		}
		r, err := s.signedRelease(version, names)
		if err != nil {
			return Edit{}, err
		}
		if _, err := d.List(r); err != nil {
			return Edit{}, Fail(err, "sluice trust status shows what is signed")
		}
	}
	if t.Flags == nil {
		return s.finishTrust(d, t.Signer)
	}
	added, gone, err := s.listFlags(d, t.Flags, t.NewestOnly)
	if err != nil {
		return Edit{}, err
	}
	e, err := s.finishTrust(d, t.Signer)
	if err == nil && added+gone > 0 {
		e.Summary += fmt.Sprintf("; of flags, %s new, %s no longer signed", words.Count(added, "part"),
			words.Count(gone, "part"))
	}
	return e, err
}

// listFlags lists what bundles of flags may consist of.
func (s *Releases) listFlags(d *trust.Draft, t *repository.Tree, only bool) (added, gone int, err error) {
	if t.Invalid {
		return 0, 0, &Error{Err: errors.New("the flags repository has faults"), Next: "mend it first: sluice flag lint",
			Faults: Fatal(t.Faults)}
	}
	entries := map[string]bool{}
	for name, c := range s.Desired.Channels {
		entries[name] = c.Policy != nil && len(c.Policy.After) == 0
	}
	made, err := signed.Make(t, entries)
	if err != nil {
		return 0, 0, err
	}
	parts := make([]trust.Part, len(made))
	for i, p := range made {
		parts[i] = trust.Part(p)
	}
	if added, gone, err = d.ListParts(parts, only); err != nil {
		return 0, 0, Fail(err, "sluice trust rotate --flag-signer NAME --flag-signer NAME says who signs flags")
	}
	return added, gone, nil
}

// RevokeTrust takes releases out of what may run: one version, or all below a floor.
type RevokeTrust struct {
	Signer trust.Signer
	Below  releases.Version // if set, instead of Release
	What   releases.Version
	Reason string
}

func (r RevokeTrust) Message() (subject, body string) {
	if !r.Below.IsZero() {
		return "let nothing below " + r.Below.String() + " run", r.Reason
	}
	return "revoke " + r.What.String(), r.Reason
}

// Edit changes the policy, and takes what it refuses off the list.
func (r RevokeTrust) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	d, err := s.draftTrust(now)
	if err != nil {
		return Edit{}, err
	}
	if r.Below.IsZero() {
		_, err = d.Revoke(r.What, r.Reason)
	} else {
		_, err = d.RaiseFloor(r.Below)
	}
	if err != nil {
		return Edit{}, Fail(err, "sluice trust status")
	}
	return s.finishTrust(d, r.Signer)
}

// RotateTrust makes the next version of every trust file: with other signers, keys or channels, or for another year.
type RotateTrust struct {
	Signer   trust.Signer
	Rotation trust.Rotation
	Engine   bool // take the engine's keys from sluice.yaml
}

func (r RotateTrust) Message() (subject, body string) {
	var lines []string
	for _, k := range r.Rotation.Add {
		lines = append(lines, "Signer-Added: "+k.Name+" "+k.Line())
	}
	for _, name := range r.Rotation.Remove {
		lines = append(lines, "Signer-Removed: "+name)
	}
	for _, k := range r.Rotation.FlagSigners {
		lines = append(lines, "Flag-Signer: "+k.Name+" "+k.Line())
	}
	return "rotate the trust files", strings.Join(lines, "\n")
}

// Edit changes root, targets and releases.
func (r RotateTrust) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	d, err := s.draftTrust(now)
	if err != nil {
		return Edit{}, err
	}
	if r.Engine {
		keys, err := s.engineTrustKeys()
		if err != nil {
			return Edit{}, Fail(err, "sluice engine-key show")
		}
		r.Rotation.Online = append(r.Rotation.Online, keys...)
	}
	for _, name := range r.Rotation.Channels {
		if _, err := s.Channel(name); err != nil {
			return Edit{}, err
		}
	}
	if err := d.Rotate(r.Rotation); err != nil {
		return Edit{}, Fail(err, "sluice trust status shows who signs what")
	}
	return s.finishTrust(d, r.Signer)
}

// engineTrustKeys returns the engine's keys in sluice.yaml, as trust files name them.
func (s *Releases) engineTrustKeys() ([]trust.Key, error) {
	var keys []trust.Key
	for _, line := range s.Desired.Authority.Keys {
		key, err := trust.ParseKey("engine", line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// draftTrust begins a change of the trust files. It refuses to build on a root that can't be read.
func (s *Releases) draftTrust(now time.Time) (*trust.Draft, error) {
	l := s.Desired.Trust
	if l != nil && l.Root() == nil && manifest.Fatal(l.Faults) {
		return nil, &Error{Err: errors.New("the trust files have faults"), Next: "put them back as they were: sluice validate",
			Faults: Fatal(l.Faults)}
	}
	return trust.NewDraft(l, now)
}

// signedRelease returns what signers sign about a release of the repository.
func (s *Releases) signedRelease(version string, channels []string) (trust.Release, error) {
	r, err := s.Release(version)
	if err != nil {
		return trust.Release{}, err
	}
	sum := counter{hash: sha256.New()}
	if err := releases.Pack(&sum, s.Files, path.Join(releases.Dir, version)); err != nil {
		return trust.Release{}, err
	}
	if digest := releases.DigestFromSum(sum.hash.Sum(nil)); digest != r.Digest {
		return trust.Release{}, Fail(fmt.Errorf("%s has digest %s here, and %s in its history", version, digest,
			r.Digest), "releases are immutable: sluice validate")
	}
	names := slices.Clone(channels)
	slices.Sort(names)
	return trust.Release{Version: r.Version, Digest: r.Digest, Length: sum.n, Channels: slices.Compact(names),
		Commit: r.Origin, From: r.Release.Requires.From, Infrastructure: r.Release.Requires.Infrastructure}, nil
}

// counter hashes bytes and counts them.
type counter struct {
	hash interface {
		Write([]byte) (int, error)
		Sum([]byte) []byte
	}
	n int64
}

func (c *counter) Write(data []byte) (int, error) {
	c.n += int64(len(data))
	return c.hash.Write(data)
}

// finishTrust signs a draft, and says where its files stand.
func (s *Releases) finishTrust(d *trust.Draft, by trust.Signer) (Edit, error) {
	if !d.MaySign(trust.Key{Public: by.Public}) {
		return Edit{}, Fail(fmt.Errorf("the key %s is no signer's", trust.Key{Public: by.Public}.Line()),
			"name a signer's key: --key FILE; sluice trust status shows who signs")
	}
	signed, err := d.Sign(by)
	if err != nil {
		return Edit{}, err
	}
	files, err := d.Files()
	if err != nil {
		return Edit{}, err
	}
	if len(files) == 0 {
		return Edit{Summary: "nothing waits for your signature"}, nil
	}
	after := trust.Read(nil, overlay.New(s.Files).With(files))
	if bad := NewFaults(s.Desired.Faults, Fatal(after.Faults)); len(bad) > 0 {
		return Edit{}, &Error{Err: fmt.Errorf("it would introduce a fault: %s", bad[0]), Next: "nothing was committed",
			Faults: bad}
	}
	e := Edit{Files: files, Summary: "signed " + strings.Join(signed, ", ")}
	for _, name := range signed {
		f := after.File(name)
		if f == nil {
			return Edit{}, Fail(fmt.Errorf("%s would have no signature of anybody who may sign it now", name),
				"have one of its signers begin: sluice trust status shows who signs")
		}
		for _, change := range s.Desired.Trust.Changes(f) {
			e.Details = append(e.Details, name+": "+change)
		}
	}
	if dropped := d.Dropped(); len(dropped) > 0 {
		e.Summary += "; " + strings.Join(dropped, " and ") + " had signed less, and must sign again"
	}
	e.Next = "all signatures are there: it counts once the commit is on the branch"
	if len(after.Waiting) > 0 {
		first := after.Waiting[0]
		e.Next = fmt.Sprintf("%s has %s: sluice trust sign", first.Path, first.Signatures())
	}
	return e, nil
}
