package trust

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// RoleFlags signs the parts of bundles of feature flags: see package flags/signed. The policy may do without it; flags
// are unsigned then.
const RoleFlags = "flags"

// How names of parts begin.
const (
	flagPrefix  = "flags/"
	termsPrefix = "announcements/"
)

// flagPaths returns the patterns of the targets that RoleFlags signs.
func flagPaths() []string { return []string{flagPrefix + "*/*", termsPrefix + "*/*"} }

// Part is a part of bundles of flags. Several contents of one name may be signed: channels are at different ones.
type Part struct {
	Name   string // such as flags/new-editor
	SHA256 string // in hex
	Length int64
	Custom json.RawMessage
}

// MaxParts bounds the parts that one file lists.
const MaxParts = 2000

// partTarget returns the name of a part's target.
func partTarget(p Part) string { return p.Name + "/" + p.SHA256 }

func (p Part) target() (*metadata.TargetFiles, error) {
	sum, err := hex.DecodeString(p.SHA256)
	if err != nil {
		return nil, fmt.Errorf("part %s: %w", p.Name, err)
	}
	custom := slices.Clone(p.Custom)
	return &metadata.TargetFiles{Length: p.Length, Hashes: metadata.Hashes{"sha256": sum}, Custom: &custom}, nil
}

// readParts returns the parts that a file of the role lists, by name and hash.
func readParts(targets map[string]*metadata.TargetFiles) (all []Part, err error) {
	if len(targets) > MaxParts {
		return nil, fmt.Errorf("lists %d parts of flags, and may list %d: sluice trust sign --flags --newest-only",
			len(targets), MaxParts)
	}
	for _, at := range slices.Sorted(maps.Keys(targets)) {
		t := targets[at]
		digest, err := digestOf(t)
		if err != nil {
			return nil, fmt.Errorf("target %.200q %w", at, err)
		}
		name, ok := strings.CutSuffix(at, "/"+digest.Hex())
		if !ok || t.Custom == nil {
			return nil, fmt.Errorf("target %.200q is no part of flags: its name ends with its hash, and it has a custom "+
				"part", at)
		}
		custom, err := json.Marshal(t.Custom) // however the file spaces it
		if err != nil {
			return nil, fmt.Errorf("target %.200q: %w", at, err)
		}
		all = append(all, Part{name, digest.Hex(), t.Length, custom})
	}
	return all, nil
}

// ListParts lists the parts of a flags repository beside those that are listed or, with only, instead of them. The
// terms of an announcement that is no longer among the parts go in any case: it was cancelled. It returns how many are
// new, and how many are gone.
func (d *Draft) ListParts(parts []Part, only bool) (added, gone int, err error) {
	if d.targets == nil {
		return 0, 0, errNoSigners
	}
	if _, ok := delegatedRole(d.targets, RoleFlags); !ok {
		return 0, 0, errors.New("nobody signs flags yet")
	}
	if d.parts == nil {
		d.parts = metadata.Targets(d.now)
		d.parts.Signed.Version = firstFlagsVersion(d.now) - 1
	}
	is := d.parts.Signed.Targets
	next := map[string]*metadata.TargetFiles{}
	if !only {
		maps.Copy(next, is)
		maps.DeleteFunc(next, func(at string, _ *metadata.TargetFiles) bool {
			return strings.HasPrefix(at, termsPrefix) &&
				!slices.ContainsFunc(parts, func(p Part) bool { return p.Name == path.Dir(at) })
		})
	}
	for _, p := range parts {
		at := partTarget(p)
		if before := is[at]; before != nil && before.Custom != nil && sameJSON(*before.Custom, p.Custom) {
			next[at] = before
			continue
		}
		if next[at], err = p.target(); err != nil {
			return 0, 0, err
		}
		added++
	}
	for at := range is {
		if next[at] == nil {
			gone++
		}
	}
	if len(next) > MaxParts {
		return 0, 0, fmt.Errorf("%d parts of flags would be listed, and no more than %d can be: sign with --newest-only",
			len(next), MaxParts)
	}
	if added+gone > 0 || d.from.Flags == nil && d.from.waiting(RoleFlags) == nil {
		d.edit(RoleFlags)
		d.parts.Signed.Targets = next
	}
	return added, gone, nil
}

// firstFlagsVersion is the version of the first list of flags: the time, in minutes. Signing flags may end and begin
// anew, and a cell that was away in between must not take the new list for an older one.
func firstFlagsVersion(now time.Time) int64 { return now.Unix() / 60 }

// lastFlagsVersion is the highest version that a first list of flags may have: a minute of the year 2160.
const lastFlagsVersion = 100_000_000

// dropFlags ends that flags are signed, once enough people signed the policy that says so. Until then the list that
// counts goes on to count; what waits for signatures is removed.
func (d *Draft) dropFlags() {
	if f := d.from.waiting(RoleFlags); f != nil {
		d.removed = append(d.removed, f.Path)
	}
	d.parts = nil
}

// sameJSON reports whether two texts are the same JSON, however they are spaced.
func sameJSON(a, b json.RawMessage) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// SignsFlags returns the keys that sign flags, and how many have to; 0: flags are unsigned.
func (l *Ledger) SignsFlags() (keys []Key, threshold int) {
	if l == nil || l.Targets == nil {
		return nil, 0
	}
	r, ok := delegatedRole(l.Targets.targets, RoleFlags)
	if !ok {
		return nil, 0
	}
	keys, err := r.members()
	if err != nil {
		return nil, 0
	}
	return keys, r.threshold
}
