package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// A state folder with files of others is refused, and nothing in it changes; what the owner's commands made before the
// first start, and what an agent left, is no obstacle.
func TestStateFolderOfOthersIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files  []string
		refuse bool
	}{
		"a home":                     {[]string{".bashrc", "releases/notes.txt"}, true},
		"a product's folder":         {[]string{"releases/20190101/app", "current/app", "shared/x"}, true},
		"one file beside":            {[]string{"outbox", "mail.mbox"}, true},
		"the owner came first":       {[]string{"owner.yaml", "owner.lock", "clock-reset"}, false},
		"a new file system":          {[]string{"lost+found/"}, false},
		"an interrupted first start": {[]string{".new-123", "releases/", "rendered/", "work/", "lock"}, false},
		"an agent's, with notes":     {[]string{"journal.json", "README"}, false},
		"an agent's, damaged":        {[]string{"identity.json.damaged-20261103T100000.000", "README"}, false},
		"empty":                      {nil, false},
	} {
		dir := t.TempDir()
		must(t, os.Chmod(dir, 0o755)) //nolint:gosec // as folders of others are
		for _, file := range c.files {
			must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755)) //nolint:gosec // as above
			if !strings.HasSuffix(file, "/") {
				must(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
			}
		}
		err := refuseForeignFolder(dir)
		if got := err != nil; got != c.refuse || c.refuse && !strings.Contains(err.Error(), "--state") {
			t.Errorf("%s: %v", name, err)
		}
		if !c.refuse {
			continue
		}
		s := newSettings(t, newControlPlane(t))
		s.State = dir
		o, err := s.options()
		must(t, err)
		a, err := New(o)
		must(t, err)
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no agent made") {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// A loop of drift is told once as an event and for as long as it lasts in the report, and is no ill health.
func TestDriftLoopIsReported(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	good := cells.Assignment{Release: "1.0.0", Digest: "sha256:a", Sequence: 1}
	s := state{journal: journal{Accepted: &good, LastGood: &good}}
	s.handleHealth(nil, now)
	s.events = nil
	for range 3 {
		s.handleHealed(0, &cells.RecurringDriftError{Reason: "drift comes back"}, now)
	}
	r := s.buildReport()
	if len(s.events) != 1 || s.events[0].Kind != "unhealed" || r.Message != "drift comes back" ||
		r.State != cells.StateHealthy {
		t.Errorf("events %+v, report %+v", s.events, r)
	}
	s.handleHealed(1, &cells.RecurringDriftError{Reason: "drift comes back"}, now)
	if s.events[1].Kind != "healed" || s.buildReport().Message == "" {
		t.Errorf("other drift beside: %+v", s.events)
	}
	s.handleHealed(0, nil, now)
	if m := s.buildReport().Message; m != "" {
		t.Errorf("once it is over: %q", m)
	}
	s.handleHealed(0, errors.New("no"), now)
	if s.buildReport().State != cells.StateUnhealthy {
		t.Error("a heal that failed is as before")
	}
}

// The report names the objects that do not work for as long as they don't, and not once something else runs.
func TestUnhealthyObjectsAreReported(t *testing.T) {
	now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	good := cells.Assignment{Release: "1.0.0", Digest: "sha256:a", Sequence: 1}
	s := state{journal: journal{Accepted: &good, LastGood: &good}}
	broken := &cells.Unhealthy{Reason: "1 of 2 objects not healthy",
		Objects: []cells.ObjectHealth{{Object: "Deployment shop/web", Reason: "0 of 2 pods are ready"}}}
	for name, step := range map[string]func(){
		"health holds":             func() { s.handleHealth(nil, now) },
		"a target without objects": func() { s.handleHealth(&cells.Unhealthy{Reason: "exit 1"}, now) },
		"something else runs":      s.resetHealth,
	} {
		s.handleHealth(fmt.Errorf("look: %w", broken), now)
		if got := s.buildReport().Unhealthy; got != broken {
			t.Errorf("before %q: %+v", name, got)
		}
		if step(); s.buildReport().Unhealthy != nil {
			t.Errorf("after %q objects are reported", name)
		}
	}
}
