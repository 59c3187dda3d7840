// Package words formats counts, commits, instants and text from outside for sentences that people read. It is pure, and
// everything may be called at once.
package words

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// Count returns n with a noun, in the plural unless n is 1.
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Some lists names, and counts those beyond the first n.
func Some(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

// Bytes returns a number of bytes for people, in decimal units as registries show them.
func Bytes(n int64) string {
	const units = "kMGT"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for ; value >= 999.95 && unit < len(units)-1; unit++ {
		value /= 1000
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}

// OneLine puts text from outside on one line, for a commit's message or the log: clean, and at most 400 characters.
func OneLine(s string) string {
	s = cleantext.Line(strings.Join(strings.Fields(s), " "))
	if r := []rune(s); len(r) > 400 {
		return string(r[:400]) + "…"
	}
	return s
}

// Shell returns a command line in which a shell takes every argument as it is.
func Shell(args ...string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,:/@+="
	quoted := make([]string, 0, len(args))
	for _, a := range args {
		if a == "" || strings.Trim(a, plain) != "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted = append(quoted, a)
	}
	return strings.Join(quoted, " ")
}

// ShortCommit shortens a commit's id for people.
func ShortCommit(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}

// FormatTime returns an instant as people read it: in UTC, to the second.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

// Clip shortens text to n bytes; no rune is cut.
func Clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const more = "…"
	n -= len(more)
	for n > 0 && text[n]&0xC0 == 0x80 {
		n--
	}
	return text[:n] + more
}
