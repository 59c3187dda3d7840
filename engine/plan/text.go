package plan

import (
	"strings"
)

// join lists words for people.
func join(words []string) string { return strings.Join(words, ", ") }

// sameAddress compares e-mail addresses as git hosts do: without regard to case.
func sameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}
