package ofrep

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// etagOf returns the strong ETag of a body by the hashes of its parts.
func etagOf(hashes []byte) string {
	sum := sha256.Sum256(hashes)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// matchesETag reports whether one of the header's tags equals the tag by the weak comparison, with or without quotes.
func matchesETag(header []string, tag string) bool {
	tag = strings.Trim(tag, `"`)
	for _, line := range header {
		for given := range strings.SplitSeq(line, ",") {
			given = strings.TrimSpace(given)
			if given == "*" || strings.Trim(strings.TrimPrefix(given, "W/"), `"`) == tag {
				return true
			}
		}
	}
	return false
}
