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

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 3_140_000_000: "3.1 GB",
		999_999: "1.0 MB", 5_000_000_000_000_000: "5000.0 TB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
