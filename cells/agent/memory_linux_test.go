package agent

import (
	"os"
	"regexp"
	"testing"
)

// Every line that begins a stretch of memory is seen as one, those without a file too.
func TestMappingsAreSeen(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	for _, line := range regexp.MustCompile(`(?m)^.+$`).FindAllString(string(text), -1) {
		if m := mapping.FindStringSubmatch(line); m == nil {
			t.Errorf("%q is not seen", line)
		}
	}
	must(t, forgetCode())
}
