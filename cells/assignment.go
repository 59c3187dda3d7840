package cells

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
)

// Key returns the name of an assignment as a whole. Assignments with equal epoch, sequence, channel, release, digest,
// profile, values and request to retry have equal keys, on every machine and for ever. Cells remember last good and
// failed assignments by key (R13).
func (a Assignment) Key() string {
	fields := []any{a.Channel, a.Epoch, a.Sequence, a.Release, a.Digest, a.profile()}
	if a.Retry != "" { // without one, the key is that of versions that knew no retries
		fields = append(fields, a.Retry)
	}
	position, _ := json.Marshal(fields) // strings and numbers always encode
	h := sha256.New()
	h.Write(position)
	h.Write(a.canonicalValues())
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// profile returns the profile's name, which is "default" where Profile is empty.
func (a Assignment) profile() string { return cmp.Or(a.Profile, "default") }

// contentHash returns a hash of a cell's profile and values, or "" for the defaults.
func contentHash(c Cell) string {
	a := Assignment{Profile: c.Profile, Values: c.Values}
	if len(a.Values) == 0 && a.profile() == "default" {
		return ""
	}
	sum := sha256.Sum256(append([]byte(a.profile()+"\x00"), a.canonicalValues()...))
	return hex.EncodeToString(sum[:8])
}

// hashOf returns a hash of a cell's labels or texts, or "" if there are none.
func hashOf[T any](named map[string]T) string {
	if len(named) == 0 {
		return ""
	}
	b, err := json.Marshal(named)
	if err != nil {
		return err.Error() // strings always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// canonicalValues returns the values as JSON, with sorted keys. A whole number is written alike whether it came from
// YAML or JSON, and no values are the same as an empty map. Values that JSON can't express come from neither, and equal
// only themselves.
func (a Assignment) canonicalValues() []byte {
	if len(a.Values) == 0 {
		return []byte("null")
	}
	b, err := json.Marshal(a.Values)
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// Identical reports whether a and b have the same fields. Then they are Equal, and this costs no hash; the other way
// round it need not hold.
func (a *Assignment) Identical(b *Assignment) bool {
	return a == b || a != nil && b != nil && a.Channel == b.Channel && a.Epoch == b.Epoch && a.Sequence == b.Sequence &&
		a.Release == b.Release && a.Digest == b.Digest && a.Profile == b.Profile && a.Revision == b.Revision &&
		a.ForwardOnly == b.ForwardOnly && a.Retry == b.Retry && maps.EqualFunc(a.Values, b.Values, identicalValues)
}

// identicalValues compares two of a cell's values, most of which are texts, numbers, and objects of these.
func identicalValues(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case json.Number:
		y, ok := b.(json.Number)
		return ok && x == y
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, identicalValues)
	}
	return reflect.DeepEqual(a, b)
}

// Equal reports whether a and b are the same assignment.
func (a Assignment) Equal(b Assignment) bool {
	return a.Epoch == b.Epoch && a.Sequence == b.Sequence && a.Digest == b.Digest &&
		(a.Identical(&b) || a.Key() == b.Key())
}

// SameRelease reports whether a and b run the same bytes. Their profile and values may differ.
func (a Assignment) SameRelease(b Assignment) bool {
	return a.Release == b.Release && a.Digest == b.Digest
}

// SameContent reports whether a and b render to the same files: whether release, profile and values are equal.
func (a Assignment) SameContent(b Assignment) bool {
	return a.SameRelease(b) && a.profile() == b.profile() && bytes.Equal(a.canonicalValues(), b.canonicalValues())
}

// Newer reports whether a comes after b, by epoch and then by sequence (R2).
func Newer(a, b Assignment) bool {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Sequence, b.Sequence)) > 0
}

// MaxLead is how far an epoch, a sequence or a height of flags may be ahead of what the cell knows. Without the bound a
// control plane that was taken over for a moment could name the greatest number, after which the cell would refuse its
// vendor for ever.
const MaxLead = 1 << 20

// LeadsTooFar reports whether a is more than MaxLead ahead of known, in epoch or sequence.
func LeadsTooFar(a, known Assignment) bool {
	return a.Epoch > known.Epoch && a.Epoch-known.Epoch > MaxLead ||
		a.Sequence > known.Sequence && a.Sequence-known.Sequence > MaxLead
}

// Conflicts reports whether a and b have the same epoch and sequence and different digests. A cell refuses such an
// assignment and raises an alarm (R2). Profile and values may differ: they change without a move of the head (R13).
func Conflicts(a, b Assignment) bool {
	return a.Epoch == b.Epoch && a.Sequence == b.Sequence && a.Digest != b.Digest
}
