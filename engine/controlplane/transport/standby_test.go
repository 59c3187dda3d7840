package transport_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// R29: the standby key is kept elsewhere, and signs what cells take in place of what they have: a cell that has the
// first pins follows every change, and one with a thief's follows none.
func TestR29StandbyKeyKeptElsewhere(t *testing.T) {
	t.Parallel()
	dir, safe := filepath.Join(t.TempDir(), "tls"), t.TempDir()
	open := func() *transport.Keys {
		t.Helper()
		k, err := transport.OpenKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	file := func(name string) string { return filepath.Join(safe, name) }
	first := open()
	if !first.StandbyHere || len(first.SignedPins) != 0 {
		t.Errorf("%+v", first)
	}
	if err := transport.MoveStandbyKey(dir, file("standby.key")); err != nil {
		t.Fatal(err)
	}
	if transport.MoveStandbyKey(dir, file("again.key")) == nil {
		t.Error("a key that is not there was moved")
	}
	moved := open()
	if _, err := os.Stat(filepath.Join(dir, "standby.key")); err == nil || moved.StandbyHere ||
		!slices.Equal(moved.Pins, first.Pins) {
		t.Errorf("after the move: %v (%v)", moved.Pins, err)
	}
	follow := func(k *transport.Keys) []string {
		pins, _ := identity.FollowPins(first.Pins, 0, k.SignedPins)
		return pins
	}
	change := func(s transport.Succession) {
		t.Helper()
		s.Dir, s.Standby, s.Next = dir, file(s.Standby), file(s.Next)
		for range 2 { // repeated, as after a crash
			if _, err := transport.Succeed(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	change(transport.Succession{Standby: "standby.key", Next: "second.key", KeepActive: true})
	second := open()
	if second.Pins[0] != first.Pins[0] || second.Pins[1] == first.Pins[1] ||
		!slices.Equal(follow(second), second.Pins) {
		t.Errorf("another standby key: %v, followed to %v", second.Pins, follow(second))
	}
	change(transport.Succession{Standby: "second.key", Next: "third.key"})
	third := open()
	if third.Pins[0] != second.Pins[1] || third.StandbyHere || !slices.Equal(follow(third), third.Pins) {
		t.Errorf("the standby key took over: %v, followed to %v", third.Pins, follow(third))
	}
	thief := []string{first.Pins[0], "sha256:00"}
	if pins, _ := identity.FollowPins(thief, 0, third.SignedPins); !slices.Equal(pins, thief) {
		t.Errorf("another set of pins is followed to %v", pins)
	}
	if _, err := transport.Succeed(transport.Succession{Dir: dir, Standby: file("third.key"),
		Next: file("third.key")}); err == nil {
		t.Error("a key is its own successor")
	}
}

// R29: an installation whose standby key is in the folder goes on as before: moved onto the active one, it signs the
// standby key that takes its place.
func TestR29StandbyKeyMovedByHand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	first, err := transport.OpenKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	pins, serial := first.Pins, int64(0)
	for range 3 {
		if err := os.Rename(filepath.Join(dir, "standby.key"), filepath.Join(dir, "active.key")); err != nil {
			t.Fatal(err)
		}
		next, err := transport.OpenKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		if pins, serial = identity.FollowPins(pins, serial, next.SignedPins); !slices.Equal(pins, next.Pins) {
			t.Errorf("followed to %v, want %v", pins, next.Pins)
		}
	}
}
