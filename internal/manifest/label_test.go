package manifest

import (
	"regexp"
	"strings"
	"testing"
)

func TestIsLabel(t *testing.T) {
	t.Parallel()
	names := []string{"", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("-", 63), "ä", "a\x00", "z9"}
	const letters = "a0-A.\n"
	for _, a := range letters {
		for _, b := range letters {
			for _, c := range letters {
				names = append(names, string(a), string(a)+string(b), string(a)+string(b)+string(c))
			}
		}
	}
	pattern := regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z`)
	for _, name := range names {
		if got, want := IsLabel(name), pattern.MatchString(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
