// Package audit chains the lines of the audit, so that nobody can remove or change one without its being found: each
// row holds the hash of the row before, and Verify compares them, also offline, from an export, and with what is
// known from elsewhere: what earlier exports end with, and what the engine commits once a day.
//
// The package is pure: it reads no clock, no database and no repository. What it detects is a change after the fact, by
// whoever has the database. Whoever writes the whole chain anew is found by these.
// Its functions may be called at once.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/internal/words"
)

// MaxRows is how many of the newest rows the store keeps. Of what was cut, the hash of the last row is kept.
const MaxRows = 200_000

// Limits of the texts of one row, in bytes.
const (
	maxName = 200
	maxWhat = 4 << 10
)

// Row is one line of the audit, in its place.
type Row struct {
	Number int64 `json:"number"` // from 1, without gaps
	access.Entry
	Prev string `json:"prev,omitempty"` // the hash of the row before; empty in the first one
}

// Head is a row's place and hash: it stands for all rows up to there.
type Head struct {
	Number int64  `json:"number"`
	Hash   string `json:"hash,omitempty"`
}

// Sealed is a row as it is stored: its bytes are what is hashed.
type Sealed struct {
	Number int64
	Body   string
	Hash   string
}

// Chain appends entries to the rows up to head.
func Chain(head Head, entries []access.Entry) (rows []Sealed, next Head, err error) {
	for _, e := range entries {
		body, err := json.Marshal(Row{Number: head.Number + 1, Entry: Clip(e), Prev: head.Hash})
		if err != nil {
			return nil, head, fmt.Errorf("encode row %d of the audit: %w", head.Number+1, err)
		}
		head = Head{Number: head.Number + 1, Hash: HashRow(body)}
		rows = append(rows, Sealed{head.Number, string(body), head.Hash})
	}
	return rows, head, nil
}

// Clip returns an entry with its texts as short as a row has them.
func Clip(e access.Entry) access.Entry {
	e.Who, e.From, e.What = words.Clip(e.Who, maxName), words.Clip(e.From, maxName), words.Clip(e.What, maxWhat)
	return e
}

// HashRow returns the hash of a row's bytes.
func HashRow(body []byte) string {
	h := sha256.New()
	h.Write([]byte("sluice audit/1\n"))
	h.Write(body)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
