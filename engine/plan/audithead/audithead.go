// Package audithead is about the newest row of the audit as the engine commits it, once a day: when that is due, and
// the file. Whoever has the repository finds by it that the database has other rows.
//
// The package is pure; everything in it may be called at once.
package audithead

import (
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// File is the file's path.
const File = "audit/head.yaml"

const maxKept = 1000

// Head is the content of File: the newest row of the audit at an instant, which stands for all rows up to there.
type Head struct {
	Row    int64     `yaml:"row" json:"row" required:"true" doc:"the newest row's number"`
	Hash   string    `yaml:"hash" json:"hash" required:"true" doc:"its hash, as sluice audit export prints it"`
	At     time.Time `yaml:"at" json:"at" required:"true" doc:"when that was"`
	Commit string    `yaml:"-" json:"-"` // has the file
}

// Chain is how far the audit is in the store.
type Chain struct {
	Row  int64
	Hash string
	Open time.Time // when the first row was written that no commit stands for yet; zero: there is none
}

// Due returns when a commit is due after last: on the UTC day after that of the first open row, and once a day. ok is
// false if there is nothing to commit. A store that has fewer rows than were committed was restored: its chain is left
// to sluice audit verify. The instant in last is the engine's own, unless its clock was wrong.
func Due(c *Chain, last Head, now time.Time) (at time.Time, ok bool) {
	if c == nil || c.Open.IsZero() || c.Row <= last.Row {
		return at, false
	}
	at = nextUTCDay(c.Open)
	if next := nextUTCDay(last.At); next.After(at) && !last.At.After(now) {
		at = next
	}
	return at, true
}

func nextUTCDay(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour) }

// Encode returns the file as the engine writes it.
func (h Head) Encode() []byte {
	return fmt.Appendf(nil, "row: %d\nhash: %s\nat: %s\n", h.Row, h.Hash, h.At.UTC().Format(time.RFC3339))
}

var hashForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) })

// Parse reads the file as commit has it.
func Parse(data []byte, commit string) (h Head, ok bool) {
	doc, faults := manifest.Decode[Head](File, data)
	if manifest.Fatal(faults) || doc.Value.Row <= 0 || !hashForm().MatchString(doc.Value.Hash) {
		return h, false
	}
	h = doc.Value
	h.Commit = commit
	return h, true
}

// Append returns heads, oldest first, with one more, and not more than are kept.
func Append(heads []Head, h Head) []Head {
	return append(heads[max(0, len(heads)+1-maxKept):], h)
}
