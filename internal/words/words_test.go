package words

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// A clipped text is valid UTF-8, within the limit, and ends in an ellipsis.
func TestClip(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", 100), strings.Repeat("ö", 100),
		strings.Repeat("…", 100)} {
		for n := 5; n < 20; n++ {
			got := Clip(text, n)
			if len(text) <= n && got != text || len(text) > n && !strings.HasSuffix(got, "…") || len(got) > n ||
				!utf8.ValidString(got) {
				t.Errorf("%q in %d bytes is %q", text, n, got)
			}
		}
	}
}
