package releases

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// DigestPattern matches a digest, for schemas.
const DigestPattern = `^sha256:[0-9a-f]{64}$`

const digestPrefix = "sha256:"

// Digest is "sha256:" and 64 lower-case hex digits: of a release's canonical tar, or of other bytes. Empty means none.
type Digest string

func ParseDigest(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	ok = ok && len(digits) == 2*sha256.Size
	for i := 0; ok && i < len(digits); i++ {
		c := digits[i]
		ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
	}
	if !ok {
		return "", fmt.Errorf("%.90q is not a digest: it needs sha256: and 64 lower-case hex digits", s)
	}
	return Digest(s), nil
}

// DigestBytes returns the digest of b itself.
func DigestBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return DigestFromSum(sum[:])
}

// DigestFromSum returns the digest of bytes whose SHA-256 is sum.
func DigestFromSum(sum []byte) Digest { return Digest(digestPrefix + hex.EncodeToString(sum)) }

// Short returns the first 12 hex digits, for people.
func (d Digest) Short() string {
	s := strings.TrimPrefix(string(d), digestPrefix)
	return s[:min(12, len(s))]
}

// Hex returns the hex digits alone, for file names.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// UnmarshalText is ParseDigest, but takes empty text as no digest.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*d = ""
		return nil
	}
	*d, err = ParseDigest(string(text))
	return err
}
