package channels

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// EngineKeys says whose commits count as the engine's (R46). The zero value says nothing: until a repository lists
// keys, every commit that looks like the engine's counts as its own.
type EngineKeys struct {
	Keys     []string `yaml:"keys" json:"keys,omitempty" doc:"SSH public keys, authorized_keys form: heads, identities and quarantines count only in commits that one of them signed"`
	Unsigned bool     `yaml:"-" json:"unsigned,omitempty" doc:"the repository does without signatures of the engine"`
}

// UnmarshalText reads the one word that may stand in place of keys.
func (e *EngineKeys) UnmarshalText(text []byte) error {
	if string(text) != "unsigned" {
		return fmt.Errorf("%.40q is neither a list of keys nor the word unsigned", text)
	}
	*e = EngineKeys{Unsigned: true}
	return nil
}

// IsSet reports whether the repository says anything of the engine's keys.
func (e EngineKeys) IsSet() bool { return e.Enforced() || e.Unsigned }

// Enforced reports whether the engine's commits need a signature.
func (e EngineKeys) Enforced() bool { return len(e.Keys) > 0 }

// Trust reports whether a commit with that signature's key, or none, counts as the engine's.
func (e EngineKeys) Trust(key string) bool { return !e.Enforced() || slices.Contains(e.Keys, key) }

// Equal reports whether both say the same.
func (e EngineKeys) Equal(o EngineKeys) bool {
	return e.Unsigned == o.Unsigned && slices.Equal(e.Keys, o.Keys)
}

// normaliseKeys brings the keys into the form that releases.Change.Key has.
func (e *EngineKeys) normaliseKeys(doc *manifest.Doc[Pipeline]) (faults []manifest.Fault) {
	if e.Keys != nil && len(e.Keys) == 0 {
		faults = append(faults, doc.Fault(manifest.Missing, "engine.keys",
			"lists no key: list the engine's, or write engine: unsigned"))
	}
	for i, key := range e.Keys {
		at := fmt.Sprintf("engine.keys[%d]", i)
		parsed, err := ParseKey(key)
		switch {
		case err != nil:
			faults = append(faults, doc.Fault(manifest.WrongValue, at, "%v", err))
		case slices.Contains(e.Keys[:i], parsed):
			faults = append(faults, doc.Fault(manifest.Duplicate, at, "is listed twice"))
		}
		e.Keys[i] = parsed
	}
	return faults
}
