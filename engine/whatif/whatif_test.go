package whatif_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/engine/whatif"
	"github.com/sluice-cd/sluice/internal/manifest"
)

const day = 24 * time.Hour

func sourceOf(w *World) whatif.Source {
	return whatif.Source{FS: w.Open, History: w.CopyHistory}
}

// questionAbout asks about a policy of dedicated.
func questionAbout(t *testing.T, w *World, rest string) whatif.Question {
	t.Helper()
	text := "apiVersion: sluice/v1\nkind: Channel\n" + rest
	return whatif.Question{Channel: "dedicated", Policy: []byte(text), From: w.Now, For: 30 * day,
		Scenario: simulate.Suggest(w.Desired(), 30*day)}
}

func ask(t *testing.T, w *World, q whatif.Question) *whatif.Answer {
	t.Helper()
	a, err := whatif.Ask(t.Context(), sourceOf(w), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A longer soak makes releases later by as much, and changes nothing of the channel before.
func TestLongerSoakIsLater(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	a := ask(t, w, questionAbout(t, w, "after: [staging]\ngates:\n  - soak: {for: 20h, cells: 2}\n"))
	if a.Comparison == nil || a.Short {
		t.Fatalf("%+v", a)
	}
	s := whatif.Summarise(a.Comparison)
	if s.Later < 3 || s.Earlier != 0 || s.Longest < 18*time.Hour || s.Longest > 20*time.Hour {
		t.Errorf("%+v", s)
	}
	for _, m := range a.Comparison.Moved {
		if by, both := m.Later(); m.Channel == "staging" && (!both || by != 0) {
			t.Errorf("in staging %+v", m)
		}
	}
}

// The policy as it is changes nothing.
func TestTheSamePolicyChangesNothing(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	files, err := w.Open(w.Tip)
	if err != nil {
		t.Fatal(err)
	}
	q := questionAbout(t, w, "")
	if q.Policy, err = fs.ReadFile(files, whatif.PolicyFile("dedicated")); err != nil {
		t.Fatal(err)
	}
	s := whatif.Summarise(ask(t, w, q).Comparison)
	if s.Later+s.Earlier+s.Only[0]+s.Only[1] != 0 || s.Same < 6 {
		t.Errorf("%+v", s)
	}
}

// A text with a fault is refused with its line, as sluice validate refuses the file, and so is a scenario.
func TestFaultsAreReportedWithTheirLines(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	for name, c := range map[string]struct {
		policy, scenario string
		line             int
		says             string
	}{
		"unknown field":   {policy: "after: [staging]\nsoak: 3h\n", line: 4, says: "soak"},
		"unknown channel": {policy: "after: [nowhere]\n", line: 3, says: "nowhere"},
		"a circle":        {policy: "after: [dedicated]\n", line: 3, says: "after itself"},
		"no YAML":         {policy: "after: [", line: 3, says: ""},
		"scenario": {policy: "after: [staging]\n", scenario: "apiVersion: sluice/v1\nkind: Scenario\nseeds: 1\n", line: 3,
			says: "seeds"},
	} {
		q := questionAbout(t, w, c.policy)
		if c.scenario != "" {
			q.Scenario = []byte(c.scenario)
		}
		a := ask(t, w, q)
		if a.Comparison != nil || !manifest.Fatal(a.Faults) {
			t.Errorf("%s: %+v", name, a)
			continue
		}
		if f := a.Faults[0]; f.Line != c.line || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %s", name, f)
		}
	}
}

// What is too large is refused at once, an end of the time gives what there is, and whoever leaves is not waited for.
func TestQuestionsHaveBounds(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	q := questionAbout(t, w, "after: [staging]\n")
	large := q
	large.Scenario = []byte("apiVersion: sluice/v1\nkind: Scenario\ncells: {add: {staging: 20001}}\n")
	if _, err := whatif.Ask(t.Context(), sourceOf(w), large); !errors.Is(err, whatif.ErrTooLarge) {
		t.Errorf("20,001 cells: %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := whatif.Ask(gone, sourceOf(w), q); !errors.Is(err, context.Canceled) {
		t.Errorf("of whoever left: %v", err)
	}
	long := q
	long.Scenario = []byte("apiVersion: sluice/v1\nkind: Scenario\ncells: {add: {staging: 400}}\n" +
		"outages: [{every: 2h, for: 10m}]\n")
	often := q
	often.Scenario = []byte("apiVersion: sluice/v1\nkind: Scenario\noutages: [{every: 1s, for: 1s}]\n")
	if _, err := whatif.Ask(t.Context(), sourceOf(w), often); !errors.Is(err, whatif.ErrTooLarge) {
		t.Errorf("an outage a second: %v", err)
	}
	brief, done := context.WithTimeout(t.Context(), time.Second)
	defer done()
	begun := time.Now()
	a, err := whatif.Ask(brief, sourceOf(w), long)
	switch {
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		t.Error(err)
	case err == nil && (!a.Short || !a.Comparison.Until.Before(long.From.Add(long.For))):
		t.Errorf("400 cells for 30 days in %s: %v until %s", time.Since(begun), a.Short, a.Comparison.Until)
	case time.Since(begun) > time.Minute:
		t.Errorf("3 s took %s", time.Since(begun))
	}
}
