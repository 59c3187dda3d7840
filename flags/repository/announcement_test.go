package repository_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
)

func TestWhen(t *testing.T) {
	tree := repository.Load(nil, good(t))
	for _, tt := range []struct {
		announcement, channel string
		entry                 bool
		at                    string
		ready, never          bool
	}{
		{"workspace-classes", "dedicated", false, "2026-12-01T10:00:00+01:00", false, false},
		{"workspace-classes", "beta", false, "2026-11-24T10:00:00+01:00", false, false},
		{"workspace-classes", "staging", true, "", true, false},
		{"workspace-classes", "another-entry", true, "", true, false},
		{"ssh-gateway", "dedicated", false, "2026-03-02T09:00:00-05:00", false, false},
	} {
		at, ready, never := tree.Announcements[tt.announcement].When(tt.channel, tt.entry)
		got := ""
		if !at.IsZero() {
			got = at.Format(time.RFC3339)
		}
		if got != tt.at || ready != tt.ready || never != tt.never {
			t.Errorf("%s in %s: %q, %t, %t", tt.announcement, tt.channel, got, ready, never)
		}
	}
	untimed := repository.Announcement{Channels: map[string]repository.PublishTime{"never": {Never: true}}}
	if at, ready, never := untimed.When("dedicated", false); !at.IsZero() || ready || never {
		t.Error("without a time there is one")
	}
	if _, _, never := untimed.When("never", true); !never {
		t.Error("an entry channel's own never does not count")
	}
}

func TestSelects(t *testing.T) {
	labels := map[string]string{"tier": "paid", "empty": ""}
	for _, tt := range []struct {
		s    repository.Selector
		want bool
	}{
		{repository.Selector{}, true},
		{repository.Selector{Names: []string{"acme", "globex"}}, true},
		{repository.Selector{Names: []string{"globex"}}, false},
		{repository.Selector{Channels: []string{"beta"}}, true},
		{repository.Selector{Channels: []string{"staging"}}, false},
		{repository.Selector{Labels: map[string]string{"tier": "paid"}}, true},
		{repository.Selector{Labels: map[string]string{"tier": "free"}}, false},
		{repository.Selector{Labels: map[string]string{"empty": ""}}, true},
		{repository.Selector{Labels: map[string]string{"absent": ""}}, false},
		{repository.Selector{Names: []string{"acme"}, Channels: []string{"staging"}}, false},
	} {
		if got := tt.s.Selects("acme", "beta", labels); got != tt.want {
			t.Errorf("%+v selects acme: %t", tt.s, got)
		}
	}
}

// R44: steps count from publication; without steps, all users get the features at once.
func TestRamp(t *testing.T) {
	r := repository.Ramp{Steps: []repository.Step{
		{Percent: 10, After: repository.Duration(time.Hour)}, {Percent: 50, After: repository.Duration(2 * time.Hour)},
		{Percent: 100, After: repository.Duration(3 * time.Hour)},
	}}
	for _, tt := range []struct {
		since   time.Duration
		percent int
		next    time.Duration
		more    bool
	}{
		{-time.Hour, 0, time.Hour, true}, {0, 0, time.Hour, true}, {time.Hour - 1, 0, time.Hour, true},
		{time.Hour, 10, 2 * time.Hour, true},
		{150 * time.Minute, 50, 3 * time.Hour, true}, {3 * time.Hour, 100, 0, false}, {99 * time.Hour, 100, 0, false},
	} {
		next, more := r.Next(tt.since)
		if got := r.Percent(tt.since); got != tt.percent || next != tt.next || more != tt.more {
			t.Errorf("after %s: %d percent, next %s, %t", tt.since, got, next, more)
		}
	}
	if (repository.Ramp{}).Percent(0) != 100 || !(repository.Ramp{}).IsZero() {
		t.Error("no ramp is not for everybody")
	}
}
