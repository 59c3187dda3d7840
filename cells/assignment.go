package cells

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Key names an assignment as a whole: equal for equal epoch, sequence, channel, release, digest, profile and
// values, on every machine and for ever. Last good and failed assignments are remembered by it (R13).
func (a Assignment) Key() string {
	place, _ := json.Marshal([]any{a.Channel, a.Epoch, a.Sequence, a.Release, a.Digest, a.profile()}) // text and numbers: no error
	h := sha256.New()
	h.Write(place)
	h.Write(a.canonicalValues())
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// profile gives the profile's name: the empty one means "default".
func (a Assignment) profile() string { return cmp.Or(a.Profile, "default") }

// contentHash names a cell's profile and values; empty: the defaults.
func contentHash(c Cell) string {
	a := Assignment{Profile: c.Profile, Values: c.Values}
	if len(a.Values) == 0 && a.profile() == "default" {
		return ""
	}
	sum := sha256.Sum256(append([]byte(a.profile()+"\x00"), a.canonicalValues()...))
	return hex.EncodeToString(sum[:8])
}

// labelsHash is the hash of labels; empty: there are none.
func labelsHash(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	b, err := json.Marshal(labels)
	if err != nil {
		return err.Error() // strings always are JSON
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// canonicalValues gives the values as JSON: keys sorted, a whole number said alike whether it came from YAML or
// JSON, no values the same as an empty map. What JSON can't say has come from neither, and equals only itself.
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

// Equal tells whether a and b are the same assignment.
func (a Assignment) Equal(b Assignment) bool {
	return a.Epoch == b.Epoch && a.Sequence == b.Sequence && a.Digest == b.Digest && a.Key() == b.Key()
}

// SameRelease tells whether a and b run the same bytes; profile and values may differ.
func (a Assignment) SameRelease(b Assignment) bool {
	return a.Release == b.Release && a.Digest == b.Digest
}

// SameContent tells whether a and b come to the same files: release, profile and values.
func (a Assignment) SameContent(b Assignment) bool {
	return a.SameRelease(b) && a.profile() == b.profile() && bytes.Equal(a.canonicalValues(), b.canonicalValues())
}

// Newer tells whether a comes after b: by epoch, then by sequence (R2).
func Newer(a, b Assignment) bool {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Sequence, b.Sequence)) > 0
}

// Conflict tells whether a and b claim the same place in the order with different bytes: a cell refuses such a
// one and alarms (R2). Profile and values may differ there: they change without a move of the head (R13).
func Conflict(a, b Assignment) bool {
	return a.Epoch == b.Epoch && a.Sequence == b.Sequence && a.Digest != b.Digest
}
