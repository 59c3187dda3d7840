package flags

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
)

// computeRevision returns the Revision: a hash of the flags, the facts that rules see, the killed flags and how far
// each feature is open, and which instants of rules have come. A gate that opens nothing yet is left out, so that the
// revision does not reveal a coming announcement (R45).
func (f *Folded) computeRevision() string {
	b := make([]byte, 0, 512+8*len(f.openings))
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, f.compiled.digest[:]...)
	for _, name := range []string{"cell", "channel", "release", "region"} {
		fact, _ := f.facts[name].(string)
		text(fact)
	}
	labels, _ := f.facts["labels"].(map[string]any)
	b = binary.AppendUvarint(b, uint64(len(labels)))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		value, _ := labels[name].(string)
		text(name)
		text(value)
	}
	b = binary.AppendUvarint(b, uint64(len(f.killed)))
	for _, key := range slices.Sorted(maps.Keys(f.killed)) {
		reason, _ := f.killed[key].def.Metadata["killed"].(string)
		text(key)
		text(reason)
	}
	for _, o := range f.openings[:f.compiled.flagFeatures] {
		shown := byte(0)
		if o.shown {
			shown = 1
		}
		b = append(b, byte(o.percent), shown)
		if o.percent > 0 && o.percent < 100 {
			text(f.compiled.gates[o.gate].ID) // the gate selects the users
		}
	}
	for _, n := range f.passed {
		b = binary.AppendUvarint(b, uint64(n))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
