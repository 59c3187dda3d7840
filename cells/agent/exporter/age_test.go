package exporter

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases/export"
)

type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("the control plane can't be reached")
}

// The owner has the time to look that was agreed on, though the cell's clock leaps: ahead, nothing leaves or is removed
// for that; back, only what is dated later than now is removed, as a gap.
func TestClockLeaps(t *testing.T) {
	t.Parallel()
	e := Open(Options{StateDir: t.TempDir(), Cell: "acme", To: unreachable{}, Log: zerolog.Nop()})
	wish := export.List{Metrics: []export.Metric{{Name: "queue", Type: export.Gauge}}}
	e.SetWish("1.0.0", &wish)
	e.SetConsent(&cells.ExportConsent{Hold: 15 * time.Minute, Allowed: wish})
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	leapt := noon.Add(MaxAge + time.Hour)
	for _, step := range []struct {
		what  string
		keep  time.Time // of a file that comes before; zero: none does
		wall  time.Time
		run   time.Duration
		holds string // times of the files that are held, and of those that may leave
	}{
		{"a file comes", noon, noon, 0, "12:00 held"},
		{"the clock leaps ahead", time.Time{}, leapt, time.Minute, "12:00 held"},
		{"another comes", leapt, leapt, 14 * time.Minute, "12:00 held, 13:00 held"},
		{"the first was held", time.Time{}, leapt, 15 * time.Minute, "12:00, 13:00 held"},
		{"the clock is set back", time.Time{}, noon.Add(time.Minute), 16 * time.Minute, "12:00"},
	} {
		if !step.keep.IsZero() {
			name := e.dir.path(step.keep.Format(nameLayout) + heldEnding)
			if err := os.WriteFile(name, []byte("{}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e.upkeep(t.Context(), instant{step.wall, step.run})
		files, err := e.dir.files()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			got = append(got, f.At.Format("15:04")+map[bool]string{true: " held"}[f.Held])
		}
		if strings.Join(got, ", ") != step.holds {
			t.Errorf("%s: %v, want %s", step.what, got, step.holds)
		}
	}
	if gap := e.position.Gap; gap == nil || !gap.From.Equal(leapt) || gap.Why != "the cell's clock was set back" {
		t.Errorf("the gap is %+v", gap)
	}
}

// E4: what waits has room for 64 MiB and for 72 hours. Beyond it the older half gives way, as a gap.
func TestE4BudgetIsKept(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		size int64         // of each of ten files
		age  time.Duration // of the oldest
		left int
	}{
		"as much as may wait":  {MaxWaiting / 10, MaxAge, 10},
		"a little more":        {MaxWaiting/10 + 1, MaxAge, 5},
		"a little longer":      {1, MaxAge + time.Second, 5},
		"more than the double": {MaxWaiting / 4, time.Hour, 5},
	} {
		e := Open(Options{StateDir: t.TempDir(), Cell: "acme", To: unreachable{}, Log: zerolog.Nop()})
		wish := export.List{Metrics: []export.Metric{{Name: "queue", Type: export.Gauge}}}
		e.SetWish("1.0.0", &wish)
		e.SetConsent(&cells.ExportConsent{Hold: cells.MaxHold, Allowed: wish})
		oldest := noon.Add(-tt.age)
		for i := range 10 {
			file := e.dir.path(oldest.Add(time.Duration(i)*time.Second).Format(nameLayout) + sealedEnding)
			if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, tt.size)); err != nil {
				t.Fatal(err)
			}
		}
		files, err := e.dir.files()
		if err != nil {
			t.Fatal(err)
		}
		now := instant{noon, 0}
		if files, err = e.removeUnwanted(files, e.ages.see(files, now), now.wall); err != nil || len(files) != tt.left {
			t.Errorf("%s: %d files are left (%v), want %d", name, len(files), err, tt.left)
		}
		if gap := e.position.Gap; (gap != nil) != (tt.left < 10) || gap != nil && !gap.From.Equal(oldest) {
			t.Errorf("%s: the gap is %+v", name, gap)
		}
	}
}
