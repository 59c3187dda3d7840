package trust

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/internal/words"
)

// Sign signs everything that the signer may sign, lacks signatures, and has none of theirs. It returns which files.
func (d *Draft) Sign(by Signer) (signed []string, err error) {
	key := Key{Public: by.Public}
	add := func(role string, version int64, payload any, expires time.Time, all *[]metadata.Signature,
		id string) error {

		if id == "" || slices.ContainsFunc(*all, func(s metadata.Signature) bool { return s.KeyID == id }) {
			return nil
		}
		if isTooLong(expires, d.now) {
			return fmt.Errorf("sign %s: it would count until %s, and people sign for %d days: sluice trust rotate makes another",
				FileName(role, version), words.FormatTime(expires), Lifetime/(24*time.Hour))
		}
		data, err := cjson.EncodeCanonical(payload)
		if err != nil {
			return fmt.Errorf("sign %s: %w", FileName(role, version), err)
		}
		signature, err := by.Sign(data)
		if err != nil {
			return fmt.Errorf("sign %s: %w", FileName(role, version), err)
		}
		*all = append(*all, metadata.Signature{KeyID: id, Signature: signature})
		slices.SortFunc(*all, func(a, b metadata.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
		d.changed[role], signed = true, append(signed, FileName(role, version))
		return nil
	}
	if d.root == nil {
		return nil, errNoSigners
	}
	if d.isOpen(RoleRoot) {
		v := d.root.Signed
		if err := add(RoleRoot, v.Version, v, v.Expires, &d.root.Signatures, d.idOf(RoleRoot, key)); err != nil {
			return nil, err
		}
	}
	for _, f := range d.lists() {
		if !d.isOpen(f.role) {
			continue
		}
		v := f.m.Signed
		if err := add(f.role, v.Version, v, v.Expires, &f.m.Signatures, d.idOf(f.role, key)); err != nil {
			return nil, err
		}
	}
	return signed, nil
}

// isOpen reports whether a role's file takes signatures: what has enough of them stays as it is.
func (d *Draft) isOpen(role string) bool { return d.changed[role] || d.from.waiting(role) != nil }

// idOf returns the id under which a key signs a role's file, by what counts now or by what is being changed; empty: it
// may not.
func (d *Draft) idOf(name string, k Key) string {
	var roles []role
	if name == RoleReleases || name == RoleFlags {
		if r, ok := delegatedRole(d.targets, name); ok {
			roles = append(roles, r)
		}
		if is := d.from.Targets; is != nil {
			if r, ok := delegatedRole(is.targets, name); ok {
				roles = append(roles, r)
			}
		}
	} else {
		roles = append(roles, rootRole(d.root, name))
		if is := d.from.Root(); is != nil {
			roles = append(roles, rootRole(is.root, name))
		}
	}
	for _, r := range roles {
		if id := r.has(k); id != "" {
			return id
		}
	}
	return ""
}

// MaySign reports whether a key may sign anything here.
func (d *Draft) MaySign(key Key) bool {
	return d.root != nil && (d.idOf(RoleRoot, key) != "" || d.idOf(RoleTargets, key) != "" ||
		d.targets != nil && (d.idOf(RoleReleases, key) != "" || d.idOf(RoleFlags, key) != ""))
}

// Files returns the files to write, nil to remove one: what is changed, without what that or a newer file replaces.
func (d *Draft) Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	put := func(role string, version int64, m interface{ ToBytes(bool) ([]byte, error) }) error {
		if !d.changed[role] {
			return nil
		}
		data, err := m.ToBytes(true)
		if err != nil {
			return fmt.Errorf("write %s: %w", FileName(role, version), err)
		}
		if w := d.from.waiting(role); w != nil {
			files[w.Path] = nil
		}
		if len(data) >= maxSize(role) {
			return fmt.Errorf("write %s: it would be larger than %d bytes", FileName(role, version), maxSize(role))
		}
		files[FileName(role, version)] = append(bytes.TrimSpace(data), '\n')
		return nil
	}
	if d.root == nil {
		return nil, errNoSigners
	}
	err := put(RoleRoot, d.root.Signed.Version, d.root)
	for _, f := range d.lists() {
		err = errors.Join(err, put(f.role, f.m.Signed.Version, f.m))
	}
	if len(files) > 0 {
		for _, name := range append(d.removed, d.from.Replaced...) {
			if files[name] == nil { // else it is made anew
				files[name] = nil
			}
		}
	}
	return files, err
}
