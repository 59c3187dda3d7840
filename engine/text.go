package engine

import (
	"fmt"
	"strings"
)

// join lists words for people.
func join(words []string) string { return strings.Join(words, ", ") }

// count says how many there are of something.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sameAddress compares e-mail addresses as git hosts do: without regard to case.
func sameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}
