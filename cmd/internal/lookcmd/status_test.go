package lookcmd

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

func nightStatus() view.Status {
	now := time.Date(2026, 11, 3, 3, 0, 0, 0, time.UTC)
	return view.Status{
		Now: now,
		Channels: []view.ChannelStatus{{Name: "dedicated", Release: "1.4.0", Sequence: 7, Since: now.Add(-time.Hour),
			Digest: "sha256:0123456789abcdef", Kind: plan.Rollback, Commit: "fedcba9876543210", Replaces: "1.5.0",
			After: []string{"staging", "early"}, Cells: 2, OnHead: 1, Counts: map[view.Condition]int{"failing": 1}}},
		Cells: []view.CellStatus{
			{Name: "acme", Channel: "dedicated", Release: "1.4.0", Digest: "sha256:0123456789abcdef", Sequence: 7,
				State: cells.StateHealthy, Condition: view.ConditionHealthy, HealthySince: now.Add(-50 * time.Minute),
				LastReport: now.Add(-8 * time.Second), Granted: "1.4.0", GrantedAt: now.Add(-55 * time.Minute)},
			{Name: "globex", Channel: "dedicated", Release: "1.5.0", Digest: "sha256:aaaaaaaaaaaaaaaa", Sequence: 6,
				Profile: "small", State: cells.StateFailed, Condition: view.ConditionFailing, Message: "exit status 1",
				LastReport: now.Add(-4 * time.Second), Granted: "1.4.0", GrantedAt: now.Add(-40 * time.Minute),
				SkewSeconds: -93, Failures: 2, LastFailure: &view.LastFailure{Release: "1.4.0",
					Cause: cells.CauseRelease, Reason: "hook: exit status 1", At: now.Add(-20 * time.Minute)}},
			{Name: "new", Channel: "dedicated", State: view.StateUnknown, Condition: view.ConditionNew},
		},
	}
}

// --wide shows more about each channel and cell, and only then; no line is wider than the terminal.
func TestWideStatus(t *testing.T) {
	wide := []string{"MOVED BY", "rollback", "sha256:0123456789", "fedcba9876", "1.5.0", "staging, early",
		"1.4.0 (release) 20m ago, 2 in all", "1.4.0 40m ago", "-93s", "50m", "small", "exit status 1"}
	for _, columns := range []int{60, 100, 200} {
		app := cli.NewApp([]string{fmt.Sprintf("COLUMNS=%d", columns)}, nil, io.Discard, io.Discard)
		text := statusText(app.Stdout, nightStatus(), StatusForm{Wide: true})
		for _, want := range wide {
			if !strings.Contains(text, want) {
				t.Errorf("%d columns: %q is missing:\n%s", columns, want, text)
			}
		}
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%d columns: a line has %d: %s", columns, n, line)
			}
		}
		plain := statusText(app.Stdout, nightStatus(), StatusForm{})
		for _, not := range []string{"MOVED BY", "fedcba9876", "CLOCK"} {
			if strings.Contains(plain, not) {
				t.Errorf("without --wide: %q:\n%s", not, plain)
			}
		}
	}
}
