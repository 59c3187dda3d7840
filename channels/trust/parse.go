package trust

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// maxSize bounds a file by its role, in bytes; other roles are targets.
func maxSize(role string) int {
	switch role {
	case RoleTimestamp:
		return 16 << 10
	case RoleRoot:
		return 500 << 10
	}
	return manifest.MaxFile
}

var limits = jsondoc.Limits{Depth: 16, Text: 64 << 10}

// parse reads a file of a role strictly, and checks everything about it but signatures, versions of other files and
// the time. go-tuf reads the same bytes later: what would make it panic, or what readers take for different things, is
// refused here.
func parse[T metadata.Roles](file, role string, data []byte) (*metadata.Metadata[T], *manifest.Fault) {
	fail := func(code manifest.FaultCode, format string, args ...any) (*metadata.Metadata[T], *manifest.Fault) {
		return nil, &manifest.Fault{File: file, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	if len(data) > maxSize(role) {
		return fail(manifest.TooLarge, "is larger than %d bytes", maxSize(role))
	}
	node, faults := jsondoc.Read(file, data, limits)
	if len(faults) > 0 {
		return nil, &faults[0]
	}
	if fault := checkReading(node); fault != nil {
		fault.File = file
		return nil, fault
	}
	m, err := new(metadata.Metadata[T]).FromBytes(data)
	if err != nil {
		return fail(manifest.WrongType, "is no TUF metadata of %s: %v", role, err)
	}
	if err := checkSignatures(m.Signatures); err != nil {
		return fail(manifest.Duplicate, "%v", err)
	}
	if err := checkSigned(any(&m.Signed)); err != nil {
		return fail(manifest.WrongValue, "%v", err)
	}
	return m, nil
}

// checkReading finds what JSON readers read in different ways: null, and names that differ by case alone, of which some
// readers take the last for each.
func checkReading(n jsondoc.Node) *manifest.Fault {
	switch v := n.Value.(type) {
	case nil:
		return &manifest.Fault{Line: max(n.Line, 1), Code: manifest.WrongType, Message: "null stands for nothing here"}
	case []jsondoc.Node:
		for _, below := range v {
			if fault := checkReading(below); fault != nil {
				return fault
			}
		}
	case jsondoc.Members:
		seen := make(map[string]string, len(v))
		for _, m := range v {
			folded := strings.ToLower(strings.ToUpper(m.Key)) // as encoding/json folds
			if other, twice := seen[folded]; twice {
				return &manifest.Fault{Line: m.Line, Code: manifest.Duplicate,
					Message: fmt.Sprintf("%.100q and %.100q differ by case alone", other, m.Key)}
			}
			seen[folded] = m.Key
			if fault := checkReading(m.Node); fault != nil {
				return fault
			}
		}
	}
	return nil
}

func checkSignatures(all []metadata.Signature) error {
	seen := map[string]bool{}
	for _, s := range all {
		if seen[s.KeyID] {
			return fmt.Errorf("key %.64q signed twice", s.KeyID)
		}
		seen[s.KeyID] = true
	}
	return nil
}

// checkSigned checks the signed part of a file: a pointer to one of metadata.Roles.
func checkSigned(signed any) error {
	switch s := signed.(type) {
	case *metadata.RootType:
		if err := checkCommon(RoleRoot, s.Type, s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		for _, role := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
			r := s.Roles[role]
			if r == nil {
				return fmt.Errorf("does not say who signs %s", role)
			}
			if err := checkRole(role, r.KeyIDs, r.Threshold, s.Keys); err != nil {
				return err
			}
		}
		if len(s.Roles) != 4 {
			return errors.New("has roles beside root, targets, snapshot and timestamp")
		}
		return checkKeys(s.Keys)
	case *metadata.TargetsType:
		if err := checkCommon(RoleTargets, s.Type, s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		return checkDelegations(s.Delegations)
	case *metadata.SnapshotType:
		if err := checkMeta(s.Meta); err != nil {
			return err
		}
		return checkCommon(RoleSnapshot, s.Type, s.SpecVersion, s.Version, s.Expires)
	case *metadata.TimestampType:
		if err := checkMeta(s.Meta); err != nil {
			return err
		}
		if len(s.Meta) != 1 || s.Meta["snapshot.json"] == nil {
			return errors.New("names other files than snapshot.json")
		}
		return checkCommon(RoleTimestamp, s.Type, s.SpecVersion, s.Version, s.Expires)
	}
	return fmt.Errorf("%T is no part of TUF", signed)
}

func checkCommon(role, is, spec string, version int64, expires time.Time) error {
	switch {
	case is != role:
		return fmt.Errorf("has _type %.40q, not %s", is, role)
	case !strings.HasPrefix(spec, "1."):
		return fmt.Errorf("has spec_version %.40q: only 1.x is read", spec)
	case version < 1:
		return fmt.Errorf("has version %d: versions begin at 1", version)
	case expires.IsZero():
		return errors.New("does not say when it expires")
	}
	return nil
}

func checkMeta(all map[string]*metadata.MetaFiles) error {
	for name, m := range all {
		if m.Version < 1 || m.Length < 0 {
			return fmt.Errorf("names %.100q with version %d and length %d", name, m.Version, m.Length)
		}
	}
	return nil
}

func checkDelegations(d *metadata.Delegations) error {
	if d == nil {
		return nil
	}
	if d.SuccinctRoles != nil {
		return errors.New("delegates to hashed bins, which are not read here")
	}
	seen := map[string]bool{}
	for _, r := range d.Roles {
		switch {
		case seen[r.Name]:
			return fmt.Errorf("delegates to %.100q twice", r.Name)
		case r.Name == "" || strings.ContainsAny(r.Name, `/\`) ||
			slices.Contains(metadata.TOP_LEVEL_ROLE_NAMES[:], r.Name):
			return fmt.Errorf("delegates to %.100q, which no role may be called", r.Name)
		case len(r.PathHashPrefixes) > 0 || len(r.Paths) == 0:
			return fmt.Errorf("delegates to %s without paths", r.Name)
		}
		seen[r.Name] = true
		if err := checkRole(r.Name, r.KeyIDs, r.Threshold, d.Keys); err != nil {
			return err
		}
	}
	return checkKeys(d.Keys)
}

// checkRole refuses a role that nobody, or fewer different keys than it says, could sign.
func checkRole(role string, ids []string, threshold int, keys map[string]*metadata.Key) error {
	if threshold < 1 {
		return fmt.Errorf("%s has threshold %d: it takes at least one signature", role, threshold)
	}
	different := map[string]bool{}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			return fmt.Errorf("%s has key %.64q twice", role, id)
		}
		k := keys[id]
		if k == nil {
			return fmt.Errorf("%s has key %.64q, which is not in keys", role, id)
		}
		if different[k.Value.PublicKey] {
			return fmt.Errorf("%s has the key of %s twice, under two ids", role, ownerOf(id, k))
		}
		different[k.Value.PublicKey] = true
	}
	if len(ids) < threshold {
		return fmt.Errorf("%s has %d keys and needs %d signatures: nobody could sign it", role, len(ids), threshold)
	}
	return nil
}

func checkKeys(keys map[string]*metadata.Key) error {
	for id, k := range keys {
		raw, err := hex.DecodeString(k.Value.PublicKey)
		switch {
		case k.Type != metadata.KeyTypeEd25519 || k.Scheme != metadata.KeySchemeEd25519:
			return fmt.Errorf("key %.64q is of type %.40q, scheme %.40q: only ed25519 is read", id, k.Type, k.Scheme)
		case err != nil || len(raw) != 32 || hex.EncodeToString(raw) != k.Value.PublicKey: // one key has one text
			return fmt.Errorf("key %.64q is not 32 bytes in lower-case hex", id)
		}
	}
	return nil
}
