package timestamper_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/timestamper"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

var start = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

// replica is one process's engine, as far as a Timestamper asks.
type replica struct {
	view  *view.View
	leads bool
	now   time.Time
}

func (r *replica) View() *view.View         { return r.view }
func (r *replica) Changed() <-chan struct{} { return nil }
func (r *replica) Leads() bool              { return r.leads }
func (r *replica) Now() time.Time           { return r.now }

func version(t *testing.T, text string) releases.Version {
	t.Helper()
	v, err := releases.ParseVersion(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// at returns what is desired where staging's head is a release, of two that are signed.
func at(t *testing.T, text string, now time.Time) *plan.Desired {
	t.Helper()
	listed := func(text string) trust.Release {
		return trust.Release{Version: version(t, text), Digest: releases.DigestBytes([]byte(text)), Length: 1,
			Channels: []string{"staging"}}
	}
	l, err := trusttest.Ledger(start, []string{"staging"}, listed("1.0.0"), listed("1.1.0"))
	if err != nil {
		t.Fatal(err)
	}
	heads, err := trusttest.SignedHeads(l, now, version(t, text), "staging")
	if err != nil {
		t.Fatal(err)
	}
	return &plan.Desired{Trust: l, SignedHeads: heads}
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "sluice.db"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newTimestamper(r *replica, s *store.Store, by string) *timestamper.Timestamper {
	return timestamper.New(timestamper.Options{Engine: r, Records: s.Records(), Signer: trusttest.Signer(by),
		Log: zerolog.Nop()})
}

func refresh(t *testing.T, s *timestamper.Timestamper) *trust.Served {
	t.Helper()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := s.Current(); p != nil {
		return p.Served
	}
	return nil
}

// T3: versions only rise: with time, with what is signed, from replica to replica, with a lost database, and while the
// clock goes back. A cell takes each in turn.
func TestT3Timestamps(t *testing.T) {
	s := newStore(t)
	r := &replica{view: &view.View{Desired: at(t, "1.0.0", start)}, leads: true, now: start}
	leader := newTimestamper(r, s, "engine")
	var cell trust.State
	take := func(from *timestamper.Timestamper, release string) {
		t.Helper()
		p := from.Current()
		b := p.Bundle("staging", 0, "")
		if cell.Root == nil {
			cell.Root = b.Roots[0]
		}
		trusted, after, err := trust.Verify(cell, b, "staging", r.now)
		if err != nil {
			t.Fatalf("the cell refuses version %d: %v", p.Served.Version, err)
		}
		if cell = after; trusted.Release != release || trusted.Check(version(t, release), trusted.Head) != nil {
			t.Errorf("the head is %s, not %s", trusted.Release, release)
		}
	}
	first := refresh(t, leader)
	if first == nil || first.Version != start.Unix() {
		t.Fatalf("first %+v", first)
	}
	take(leader, "1.0.0")
	r.now = start.Add(59 * time.Minute)
	if is := refresh(t, leader); is.Version != first.Version {
		t.Error("signed again within the hour")
	}
	r.now = start.Add(time.Hour)
	second := refresh(t, leader)
	if second.Version != r.now.Unix() {
		t.Errorf("after an hour the version is %d", second.Version)
	}
	take(leader, "1.0.0")
	follower := newTimestamper(&replica{view: r.view, now: r.now}, s, "engine")
	if is := refresh(t, follower); is == nil || !bytes.Equal(is.Timestamp, second.Timestamp) {
		t.Error("a replica serves something else than the leader")
	}
	r.view = &view.View{Desired: at(t, "1.1.0", r.now)}
	third := refresh(t, leader)
	if third.Version <= second.Version {
		t.Errorf("another head, within the second, has version %d after %d", third.Version, second.Version)
	}
	take(leader, "1.1.0")
	if is := refresh(t, follower); !bytes.Equal(is.Timestamp, second.Timestamp) {
		t.Error("a replica that is behind serves a timestamp of files that it has not")
	}
	r.now = start.Add(-time.Hour) // the clock was set back
	r.view = &view.View{Desired: at(t, "1.0.0", start.Add(2*time.Hour))}
	if is := refresh(t, leader); is.Version <= third.Version {
		t.Errorf("a clock that went back made version %d after %d", is.Version, third.Version)
	}
	r.now = start.Add(3 * time.Hour)
	lost := newTimestamper(r, newStore(t), "engine")
	if is := refresh(t, lost); is.Version <= third.Version {
		t.Errorf("without its database the engine made version %d after %d", is.Version, third.Version)
	}
	take(lost, "1.0.0")
}

// What nobody may sign is not served.
func TestNothingToServe(t *testing.T) {
	r := &replica{leads: true, now: start}
	s := newTimestamper(r, newStore(t), "engine")
	if refresh(t, s) != nil {
		t.Error("served before the repository was read")
	}
	r.view = &view.View{Desired: &plan.Desired{}}
	if refresh(t, s) != nil {
		t.Error("served without signers")
	}
	r.view = &view.View{Desired: at(t, "1.0.0", start)}
	if refresh(t, newTimestamper(r, newStore(t), "mallory")) != nil {
		t.Error("served with a key that the root does not name")
	}
	if refresh(t, newTimestamper(&replica{view: r.view, now: start}, newStore(t), "engine")) != nil {
		t.Error("a replica that does not lead signed")
	}
	if refresh(t, s) == nil {
		t.Error("not served with signers")
	}
	r.view = &view.View{Desired: &plan.Desired{}}
	if refresh(t, s) != nil {
		t.Error("served after the signers' files were removed")
	}
}

// Clients of TUF ask for files by their names.
func TestFiles(t *testing.T) {
	r := &replica{view: &view.View{Desired: at(t, "1.0.0", start)}, leads: true, now: start}
	s := newTimestamper(r, newStore(t), "engine")
	refresh(t, s)
	p := s.Current()
	for name, want := range map[string][]byte{"timestamp.json": p.Served.Timestamp, "snapshot.json": p.Served.Snapshot,
		"1.root.json": p.Ledger.Roots[0].Data, "targets.json": p.Ledger.Targets.Data,
		"1.targets.json":  p.Ledger.Targets.Data,
		"1.releases.json": p.Ledger.Releases.Data, "channel-staging.json": p.Heads["staging"].Data,
		"2.root.json": nil, "../trust/1.root.json": nil, "": nil, "channel-other.json": nil} {
		if got := p.File(name); !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes", name, len(got))
		}
	}
}

// A snapshot of many channels fits into a record, and is the same for the next replica. A clock that was ahead for a
// while leaves no timestamp of the future.
func TestManyChannels(t *testing.T) {
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("customer-number-%d", i))
	}
	listed := trust.Release{Version: version(t, "1.0.0"), Digest: releases.DigestBytes([]byte("1.0.0")), Length: 1,
		Channels: names}
	l, err := trusttest.Ledger(start, names, listed)
	if err != nil {
		t.Fatal(err)
	}
	heads, err := trusttest.SignedHeads(l, start, listed.Version, names...)
	if err != nil {
		t.Fatal(err)
	}
	v := &view.View{Desired: &plan.Desired{Trust: l, SignedHeads: heads}}
	s := newStore(t)
	leader := newTimestamper(&replica{view: v, leads: true, now: start.Add(24 * time.Hour)}, s, "engine")
	ahead := refresh(t, leader)
	follower := newTimestamper(&replica{view: v, now: start.Add(24 * time.Hour)}, s, "engine")
	is := refresh(t, follower)
	if is == nil || !bytes.Equal(is.Snapshot, ahead.Snapshot) || !is.Signed.Equal(ahead.Signed) {
		t.Error("the replica serves something else")
	}
	r := &replica{view: v, leads: true, now: start.Add(24 * time.Hour)}
	again := newTimestamper(r, s, "engine")
	refresh(t, again)
	r.now = start
	if is := refresh(t, again); is.Signed.After(start) {
		t.Errorf("it is still of %s", is.Signed)
	}
}
