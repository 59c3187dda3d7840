package ofrep

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// tagOf gives the strong ETag of a body.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// matches tells whether one of the header's tags is the tag, by the weak comparison, whether they come in quotes or not.
func matches(header []string, tag string) bool {
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

// unmodified tells whether the caller has what it asks for. Its tags count before its time.
func unmodified(r *http.Request, tag string, since time.Time) bool {
	if tags := r.Header.Values("If-None-Match"); len(tags) > 0 {
		return matches(tags, tag)
	}
	has, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	return err == nil && !since.After(has)
}
