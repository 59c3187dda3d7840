package figures

import (
	"strings"
	"testing"
	"time"
)

func TestRowsSayWhetherTheyAreMet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row  Row
		want string
	}{
		{AtLeast("rate", 80, "bare", 100, 0.8), "met"},
		{AtLeast("rate", 79, "bare", 100, 0.8), "short"},
		{AtMost("time", 15*time.Second, "bare", 10*time.Second, 1.5), "met"},
		{AtMost("time", 16*time.Second, "bare", 10*time.Second, 1.5), "short"},
		{Within("time", 20*time.Millisecond, 20*time.Millisecond), "met"},
		{Within("time", 21*time.Millisecond, 20*time.Millisecond), "short"},
		{Row{What: "lost", Ratio: 0, Limit: 0}, "met"},
		{Row{What: "lost", Ratio: 1, Limit: 0}, "short"},
	} {
		if line := c.row.String(); !strings.HasSuffix(line, " "+c.want) {
			t.Errorf("%q does not end in %s", line, c.want)
		}
	}
	if line := Beside("disk", "1 ms", "").String(); strings.Contains(line, "met") || strings.Contains(line, "short") {
		t.Errorf("%q is held against nothing", line)
	}
}
