package edits

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
)

// Trailers of commits that the control plane made for somebody who asked for them in a form.
const (
	AskedByTrailer   = "Asked-By"   // who, and how that is known
	AskedFromTrailer = "Asked-From" // the address of their machine
)

// Asked is a decision that somebody asked for in a form. The commit has trailers that say who asked, from where.
type Asked[S Snapshot] struct {
	Decision[S]
	At       time.Time // when the commit was shown first: it is decided as of then, so that it stays the same
	By, From string    // for the trailers
}

// Unasked returns the decision that somebody asked for, without the asking.
func Unasked[S Snapshot](d Decision[S]) Decision[S] {
	if asked, ok := d.(Asked[S]); ok {
		return asked.Decision
	}
	return d
}

// likeTrailer matches a text that a commit's message must not have as a line: programs would read it as a trailer.
var likeTrailer = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9-]+\s*:`) })

// Message returns the decision's message with the trailers. The reason is one line, and never a trailer.
func (a Asked[S]) Message() (subject, body string) {
	subject, body = a.Decision.Message()
	var parts []string
	for part := range strings.SplitSeq(body, "\n\n") {
		if part = words.OneLine(part); likeTrailer().MatchString(part) {
			part = "Reason: " + part
		}
		if part != "" {
			parts = append(parts, part)
		}
	}
	parts = append(parts, fmt.Sprintf("%s: %s\n%s: %s", AskedByTrailer, words.OneLine(a.By), AskedFromTrailer,
		words.OneLine(a.From)))
	return subject, strings.Join(parts, "\n\n")
}

// Edit decides as of when the commit was shown first.
func (a Asked[S]) Edit(s S, by Person, _ time.Time) (Edit, error) {
	return a.Decision.Edit(s, by, a.At)
}
