package debugger

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/debug"
)

// restart returns the debugger of an agent that is started anew in the fixture's folder.
func (f *fixture) restart(t *testing.T) *Debugger {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{StateDir: filepath.Dir(string(f.folder)), Cell: "acme", Now: time.Now, Log: zerolog.Nop(),
		Identity: func() ed25519.PrivateKey { return key }})
}

// D7: what a session changed is kept across a start of the agent, for a day, and until another release begins.
func TestD7KeptChangesSurviveTheAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, func(p *debug.Permission) { p.KeepChanges = true })
	if err := f.session.permit.begin(); err != nil {
		t.Fatal(err)
	}
	f.restart(t).closeInterrupted()
	if e, err := f.folder.Load(f.id); err != nil || e.Seal == nil {
		t.Fatal("the session was not sealed", err)
	}
	now := time.Now()
	again := f.restart(t)
	if again.HealingWaits(now) == "" || again.HealingWaits(now.Add(25*time.Hour)) != "" {
		t.Error("the changes are not kept for a day")
	}
	again.ReleaseBegan()
	if why := f.restart(t).HealingWaits(now); why != "" {
		t.Errorf("another release began: %s", why)
	}
}

// The record of a session whose permission the owner removed stays in the cell.
func TestRemovedPermissionWithholds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, debug.Shell, nil)
	if err := f.session.permit.begin(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(string(f.folder), f.id, "permission.json")); err != nil {
		t.Fatal(err)
	}
	d := f.restart(t)
	d.closeInterrupted()
	e, err := f.folder.Load(f.id)
	if err != nil || e.Seal == nil {
		t.Fatal("the session was not sealed", err)
	}
	if seal, err := e.Seal.Open(d.options.Identity().Public().(ed25519.PublicKey)); err != nil || !seal.Withheld {
		t.Error("the record would leave the cell", err)
	}
}
