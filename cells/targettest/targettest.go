// Package targettest is the contract of cells.Target as a test suite.
//
// The suite applies small ConfigMaps, so that targets for files and for Kubernetes can both take part. It knows no
// target: it asks the Subject for what it can't see through cells.Target. Only tests import it. It keeps no state; Run
// may be called at once with Subjects of their own.
package targettest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// Subject is a target under test, with what the suite may do behind the target's back. Each Subject has a location of
// its own, empty at first.
type Subject struct {
	Target  cells.Target                             // required
	Reopen  func(t *testing.T) cells.Target          // required: another Target over the same location
	Observe func(t *testing.T) map[string]string     // required: ConfigMaps in place, name to value
	Drift   func(t *testing.T, kind Drift, n string) // required: disturbs the ConfigMap named n
	Break   func(t *testing.T, broken bool)          // required: makes health fail, or hold again, also after an apply
}

// Drift is a way to disturb one object.
type Drift string

const (
	Changed Drift = "changed" // its value is changed
	Removed Drift = "removed" // it is deleted
)

// Rendered returns a release of ConfigMaps, name to value, as the agent would pass it.
func Rendered(release string, values map[string]string) cells.Rendered {
	r := cells.Rendered{
		Assignment: cells.Assignment{
			Channel: "staging", Epoch: 1, Sequence: 1, Release: release,
			Digest: releases.DigestBytes([]byte(release)),
		},
		Files: map[string][]byte{},
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\n"+
			"metadata:\n  name: %s\n  namespace: default\ndata:\n  value: %q\n", name, values[name])
		r.Files["configmap-default-"+name+".yaml"] = []byte(manifest)
		r.Objects = append(r.Objects,
			cells.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: name})
		all = append(all, manifest)
	}
	r.Files["manifests.yaml"] = []byte(strings.Join(all, "---\n"))
	return r
}

// Run tests the targets that subject returns against the contract.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		hold func(t *testing.T, s Subject)
	}{
		{"apply replaces what was there", applyReplaces},
		{"apply again changes nothing", applyAgain},
		{"nothing is removed before health", nothingGoesEarly},
		{"ended before it begins, apply changes nothing", applyCancelledBefore},
		{"ended in the middle, apply again completes (fault 34)", applyCancelledMidway},
		{"drift is healed", healsDrift},
		{"healing what was never applied applies it", healsMissing},
		{"health is told as it is", reportsHealth},
		{"a restarted target goes on", continuesAfterReopen},
	} {
		t.Run(c.name, func(t *testing.T) { c.hold(t, subject(t)) })
	}
}

func applyReplaces(t *testing.T, s Subject) {
	apply(t, s, "1.0.0", map[string]string{"a": "1", "b": "1"})
	apply(t, s, "1.1.0", map[string]string{"a": "2", "c": "2"}) // removes b
	apply(t, s, "1.0.0", map[string]string{"a": "1", "b": "1"}) // restores b
}

func applyAgain(t *testing.T, s Subject) {
	values := map[string]string{"a": "1", "b": "1"}
	for range 3 {
		apply(t, s, "1.0.0", values)
	}
	if n, err := s.Target.Heal(t.Context(), Rendered("1.0.0", values)); n != 0 || err != nil {
		t.Errorf("heal mended %d, %v; nothing had drifted", n, err)
	}
}

func applyCancelledBefore(t *testing.T, s Subject) {
	values := map[string]string{"a": "1"}
	apply(t, s, "1.0.0", values)
	superseded := errors.New("superseded")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(superseded)
	if err := s.Target.Apply(ctx, Rendered("1.1.0", map[string]string{"a": "2"})); !errors.Is(err, superseded) {
		t.Errorf("apply says %v, want its context's cause", err)
	}
	wantObserved(t, s, values)
}

// nothingGoesEarly ends an apply that works not, or not yet: what the release before had, and it not, is left, or the
// target switched in one step and has it no more.
func nothingGoesEarly(t *testing.T, s Subject) {
	apply(t, s, "1.0.0", map[string]string{"a": "1", "b": "1"})
	s.Break(t, true)
	if err := s.Target.Apply(t.Context(), Rendered("1.1.0", map[string]string{"a": "2"})); err != nil {
		t.Fatal(err)
	}
	before := s.Observe(t)
	if _, err := s.Target.Heal(t.Context(), proven("1.1.0", map[string]string{"a": "2"})); err != nil {
		t.Error(err)
	}
	wantObserved(t, s, before)
	s.Break(t, false)
	apply(t, s, "1.0.0", map[string]string{"a": "1", "b": "1"})
}

// applyCancelledMidway cancels applies at instants all over their length. What is then in place is the old or the new
// release, or a mix for a target that can't switch atomically. Applied again, it is the new release.
func applyCancelledMidway(t *testing.T, s Subject) {
	values := map[string]string{}
	for i := range 20 {
		values[fmt.Sprintf("object-%02d", i)] = "0"
	}
	start := time.Now()
	apply(t, s, "1.0.0", values)
	whole := time.Since(start)
	const tries = 20
	for i := range tries {
		for name := range values {
			values[name] = fmt.Sprint(i + 1)
		}
		release := fmt.Sprintf("1.%d.0", i+1)
		ctx, cancel := context.WithTimeout(t.Context(), whole*time.Duration(i)/tries)
		err := s.Target.Apply(ctx, Rendered(release, values))
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("try %d: %v", i, err)
		}
		s.Target = s.Reopen(t)
		apply(t, s, release, values)
	}
}

func healsDrift(t *testing.T, s Subject) {
	values := map[string]string{"a": "1", "b": "1", "c": "1"}
	apply(t, s, "1.0.0", values)
	for _, kind := range []Drift{Changed, Removed} {
		s.Drift(t, kind, "b")
		n, err := s.Target.Heal(t.Context(), Rendered("1.0.0", values))
		if n != 1 || err != nil {
			t.Errorf("%s: heal mended %d, %v; want 1", kind, n, err)
		}
		wantObserved(t, s, values)
	}
}

func healsMissing(t *testing.T, s Subject) {
	values := map[string]string{"a": "1"}
	if n, err := s.Target.Heal(t.Context(), Rendered("1.0.0", values)); n == 0 || err != nil {
		t.Errorf("heal mended %d, %v", n, err)
	}
	wantObserved(t, s, values)
}

func reportsHealth(t *testing.T, s Subject) {
	apply(t, s, "1.0.0", map[string]string{"a": "1"})
	for _, broken := range []bool{false, true, false} {
		s.Break(t, broken)
		err := s.Target.Health(t.Context())
		var unhealthy *cells.Unhealthy
		switch {
		case broken && (!errors.As(err, &unhealthy) || unhealthy.Reason == ""):
			t.Errorf("broken, and health says %v; want an Unhealthy with a reason", err)
		case !broken && err != nil:
			t.Errorf("works, and health says %v", err)
		}
	}
}

func continuesAfterReopen(t *testing.T, s Subject) {
	values := map[string]string{"a": "1"}
	apply(t, s, "1.0.0", values)
	s.Target = s.Reopen(t)
	if n, err := s.Target.Heal(t.Context(), Rendered("1.0.0", values)); n != 0 || err != nil {
		t.Errorf("heal mended %d, %v; nothing had drifted", n, err)
	}
	if err := s.Target.Health(t.Context()); err != nil {
		t.Error(err)
	}
	apply(t, s, "1.1.0", map[string]string{"b": "2"})
}

// apply applies a release, waits until it is healthy, and has the target remove what only earlier releases had.
func apply(t *testing.T, s Subject, release string, values map[string]string) {
	t.Helper()
	if err := s.Target.Apply(t.Context(), Rendered(release, values)); err != nil {
		t.Fatalf("apply %s: %v", release, err)
	}
	got := s.Observe(t)
	for name, value := range values {
		if got[name] != value {
			t.Errorf("in place is %v, which lacks %s=%s", got, name, value)
		}
	}
	awaitHealth(t, s)
	if n, err := s.Target.Heal(t.Context(), proven(release, values)); n != 0 || err != nil {
		t.Errorf("heal after apply mended %d, %v; nothing had drifted", n, err)
	}
	wantObserved(t, s, values)
}

// healthWait is how long a target may take to become healthy on a busy machine.
const healthWait = time.Minute

func awaitHealth(t *testing.T, s Subject) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := s.Target.Health(t.Context())
		if err == nil {
			return
		}
		if time.Since(start) > healthWait {
			t.Fatalf("not healthy within %s: %v", healthWait, err)
		}
	}
}

func proven(release string, values map[string]string) cells.Rendered {
	r := Rendered(release, values)
	r.Proven = true
	return r
}

func wantObserved(t *testing.T, s Subject, want map[string]string) {
	t.Helper()
	if got := s.Observe(t); !maps.Equal(got, want) {
		t.Errorf("in place is %v, want %v", got, want)
	}
}
