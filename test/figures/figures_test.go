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
		{RateRow("rate", 80, "bare", 100, 0.8), "met"},
		{RateRow("rate", 79, "bare", 100, 0.8), "short"},
		{TimeRow("time", 15*time.Second, "bare", 10*time.Second, 1.5), "met"},
		{TimeRow("time", 16*time.Second, "bare", 10*time.Second, 1.5), "short"},
		{LimitRow("time", 20*time.Millisecond, 20*time.Millisecond), "met"},
		{LimitRow("time", 21*time.Millisecond, 20*time.Millisecond), "short"},
		{Row{What: "lost", Ratio: 0, Limit: 0}, "met"},
		{Row{What: "lost", Ratio: 1, Limit: 0}, "short"},
	} {
		if line := c.row.String(); !strings.HasSuffix(line, " "+c.want) {
			t.Errorf("%q does not end in %s", line, c.want)
		}
	}
	if line := NoteRow("disk", "1 ms", "").String(); strings.Contains(line, "met") || strings.Contains(line, "short") {
		t.Errorf("%q is held against nothing", line)
	}
}
