package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/flags/signed"
	"github.com/sluice-cd/sluice/releases"
)

// serveTrust makes p serve signed files; nil: it has none any more.
func serveTrust(t testing.TB, p *controlPlane, r *trusttest.Repository) {
	t.Helper()
	var text []byte
	if r != nil {
		b, err := r.Bundle()
		must(t, err)
		text, err = json.Marshal(b)
		must(t, err)
	}
	p.update(func() {
		p.refuse = func(w http.ResponseWriter, request *http.Request) bool {
			switch {
			case request.URL.Path != "/v1/trust":
				return false
			case text == nil:
				http.Error(w, `{"detail":"its releases are unsigned"}`, http.StatusNotFound)
			default:
				_, _ = w.Write(text)
			}
			return true
		}
	})
}

func signedRelease(t testing.TB, p *controlPlane, version string, sequence int64, files map[string]string,
) cells.Assignment {
	t.Helper()
	a := p.addRelease(t, version, sequence, files)
	a.Channel = trusttest.Channel
	return a
}

// saysWhy reports whether a report says why nothing new begins, and still has what ran.
func saysWhy(words string, runs cells.Assignment) func(cells.Report) bool {
	return func(r cells.Report) bool {
		return strings.Contains(r.Message, words) && r.Running != nil && r.Running.Digest == runs.Digest
	}
}

// newSignedControlPlane returns a control plane whose channel is at 1.1.0, which is signed, and what signers say of it.
func newSignedControlPlane(t *testing.T) (*controlPlane, *trusttest.Repository, cells.Assignment, trust.Bundle) {
	t.Helper()
	p := newControlPlane(t)
	r, err := trusttest.New(time.Now())
	must(t, err)
	good := signedRelease(t, p, "1.1.0", 1, agenttest.Release("1.1.0", nil))
	r.List("1.1.0", good.Digest, trusttest.Channel)
	r.Pick("1.1.0", good.Digest)
	b, err := r.Bundle()
	must(t, err)
	serveTrust(t, p, r)
	return p, r, good, b
}

// T1, T4: a control plane that was taken over, with the online keys, in front of a whole agent. Nothing that signers
// did not sign is even fetched; each refusal says why; what runs goes on, heals, and is gone back to.
func TestT4EvilControlPlane(t *testing.T) {
	t.Parallel()
	p, r, good, first := newSignedControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	s.TrustRoot = releases.DigestBytes(first.Roots[0])
	c := start(t, s)
	p.assign(good)
	p.await(t, "healthy on the signed release", healthyOn(good))

	unsigned := func(version string) cells.Assignment {
		return signedRelease(t, p, version, 0, agenttest.Release(version, map[string]string{"evil.txt": version}))
	}
	sequence := int64(1)
	for _, attack := range []struct {
		name, version, words string
		change               func(evil *trusttest.Repository, a *cells.Assignment)
	}{
		{"bytes that nobody signed", "9.9.9", "the signers did not sign 9.9.9", nil},
		{"other bytes under a signed name", "1.1.0", "the signers signed 1.1.0 with digest", nil},
		{"signed by the engine alone", "9.9.8", "the releases file",
			func(evil *trusttest.Repository, a *cells.Assignment) {
				evil.List("9.9.8", a.Digest, trusttest.Channel)
				evil.Roles[trust.RoleReleases].By = []string{"engine", "ada"}
				evil.Renew(trust.RoleReleases)
			}},
		{"another channel's release", "1.3.0", "this cell follows channel dedicated",
			func(evil *trusttest.Repository, a *cells.Assignment) {
				evil.List("1.3.0", a.Digest, "other")
				evil.Renew(trust.RoleReleases)
				a.Channel = "other"
			}},
		{"another channel's release under this one", "1.3.1", "for other, not for dedicated",
			func(evil *trusttest.Repository, a *cells.Assignment) {
				evil.List("1.3.1", a.Digest, "other")
				evil.Renew(trust.RoleReleases)
			}},
		{"a downgrade", "1.0.0", "is signed, and the control plane's signed head",
			func(evil *trusttest.Repository, a *cells.Assignment) {
				evil.List("1.0.0", a.Digest, trusttest.Channel)
				evil.Renew(trust.RoleReleases)
			}},
		{"a forged root", "9.9.7", "the root file", func(evil *trusttest.Repository, _ *cells.Assignment) {
			evil.Rotate().By = []string{"mallory", "eve"}
		}},
		{"old files", "9.9.6", "the timestamp file", func(evil *trusttest.Repository, _ *cells.Assignment) {
			evil.Timestamp.Signed["version"] = 1
			evil.Snapshot.Signed["version"] = 1
			evil.Describe()
		}},
		{"a frozen timestamp", "9.9.5", "the timestamp file: expired",
			func(evil *trusttest.Repository, _ *cells.Assignment) {
				evil.Renew()
				evil.Timestamp.Signed["expires"] = "2020-01-01T00:00:00Z"
			}},
		{"five megabytes", "9.9.3", "the releases file: is larger than 1048576 bytes",
			func(evil *trusttest.Repository, _ *cells.Assignment) { pad(evil, 5<<20) }},
		{"more than an answer may have", "9.9.2", "request the signers' files",
			func(evil *trusttest.Repository, _ *cells.Assignment) { pad(evil, trust.MaxBundle) }},
		{"no signers any more", "9.9.4", "its releases are unsigned", nil},
	} {
		a, evil := unsigned(attack.version), r.Clone()
		sequence++
		a.Sequence = sequence
		if attack.change != nil {
			attack.change(evil, &a)
		}
		if attack.name == "no signers any more" {
			evil = nil
		}
		if strings.HasPrefix(attack.name, "a downgrade") || strings.HasPrefix(attack.name, "another channel") {
			r = evil // the signers did sign that
		}
		since := p.reportCount()
		serveTrust(t, p, evil)
		p.assign(a)
		p.awaitAfter(t, since, attack.name, saysWhy(attack.words, good))
		if n := p.timesFetched(a.Digest); n > 0 {
			t.Errorf("%s: it was fetched", attack.name)
		}
		if is := appManifest(t, s.Dir); !strings.Contains(is, `version: 1.1.0`) {
			t.Errorf("%s: the target has %s", attack.name, is)
		}
	}

	for range 3 { // after what the attacks served
		r.Renew(trust.RoleReleases)
	}
	serveTrust(t, p, r)
	sendOtherValues(t, p, s.Dir, good, &sequence)

	// T4: the agent starts anew while nothing can be verified: what ran is healed.
	c.stop()
	serveTrust(t, p, nil)
	must(t, os.Remove(filepath.Join(s.Dir, "current", "configmap-shop-app.yaml")))
	since := p.reportCount()
	s.TrustRoot = "" // it was pinned
	c = start(t, s)
	p.awaitAfter(t, since, "healed", func(cells.Report) bool { return appManifest(t, s.Dir) != "" })

	// T4: a signed release that does not work is gone back from, though nothing can be verified any more.
	bad := signedRelease(t, p, "1.4.0", sequence+1, brokenRelease("1.4.0"))
	r.List("1.4.0", bad.Digest, trusttest.Channel)
	r.Pick("1.4.0", bad.Digest)
	r.Renew(trust.RoleReleases)
	r.Renew()
	serveTrust(t, p, r)
	p.update(func() {
		p.onReport = func(report cells.Report) {
			if report.Running != nil && report.Running.Digest == bad.Digest {
				p.refuse = func(w http.ResponseWriter, request *http.Request) bool {
					if request.URL.Path == "/v1/trust" {
						http.Error(w, "down", http.StatusServiceUnavailable)
					}
					return request.URL.Path == "/v1/trust"
				}
			}
		}
	})
	p.assign(bad)
	p.await(t, "the broken release failed", failedAt(bad))
	p.awaitAfter(t, p.reportCount(), "back on the last good release", func(r cells.Report) bool {
		return r.Running != nil && r.Running.Digest == good.Digest && r.State == cells.StateHealthy
	})

	// The vendor took the control plane back: what is signed is taken.
	next := signedRelease(t, p, "1.5.0", sequence+2, agenttest.Release("1.5.0", nil))
	r.List("1.5.0", next.Digest, trusttest.Channel)
	r.Pick("1.5.0", next.Digest)
	r.Renew(trust.RoleReleases)
	p.update(func() { p.onReport = nil })
	serveTrust(t, p, r)
	p.assign(next)
	p.await(t, "healthy on the next signed release", healthyOn(next))
	c.stop()
}

// pad makes the list of releases larger.
func pad(r *trusttest.Repository, size int) {
	r.Renew() // after the frozen one
	r.Renew(trust.RoleReleases)
	r.Roles[trust.RoleReleases].Change = func(data []byte) []byte { return append(data, make([]byte, size)...) }
}

// sendOtherValues has a control plane that was taken over send a cell another cell's values. They travel unsigned: the
// signed release's parameters bound them.
func sendOtherValues(t *testing.T, p *controlPlane, dir string, good cells.Assignment, sequence *int64) {
	t.Helper()
	for _, values := range []map[string]any{{"colour": "blue"}, {"image": "evil"}, {"replicas": "many"},
		{"secret": "theirs"}} {

		a := good
		*sequence++
		a.Sequence, a.Values = *sequence, values
		p.assign(a)
		p.await(t, "values that the parameters do not allow are refused", failedAt(a))
		if is := appManifest(t, dir); !strings.Contains(is, "colour: red") || strings.Contains(is, "theirs") {
			t.Errorf("%v: the target has %s", values, is)
		}
	}
	a := good
	*sequence++
	a.Sequence, a.Values = *sequence, map[string]any{"colour": "green"}
	p.assign(a)
	p.await(t, "another value that the parameters allow", healthyOn(a))
	if is := appManifest(t, dir); !strings.Contains(is, "colour: green") {
		t.Errorf("the target has %s", is)
	}
}

// T4: an offer that can't be verified supersedes an apply, or a rollback, and does not leave the cell half-written: the
// last good release comes back, whatever is offered meanwhile.
func TestT4UnverifiedOfferLeavesNothingHalfWritten(t *testing.T) {
	t.Parallel()
	good := cells.Assignment{Channel: "stable", Release: "1.0.0", Digest: "sha256:a", Sequence: 1}
	half := cells.Assignment{Channel: "stable", Release: "1.1.0", Digest: "sha256:b", Sequence: 2}
	refused := &cells.UnavailableError{Cause: &content.RefusedError{Cause: errors.New("nobody signed it")}}
	late := &cells.UnavailableError{Cause: trust.ErrExpired}
	for name, c := range map[string]struct {
		attempt  attempt
		err      error
		noReturn bool
		first    bool // nothing is good yet
		stays    bool // it is tried on and on
	}{
		"during an apply": {attempt{Assignment: half, Phase: phaseApplying}, refused, false, false, false},
		"once it was applied": {attempt{Assignment: half, Phase: phaseApplied, Applied: true}, refused,
			false, false, false},
		"during a rollback": {attempt{Assignment: good, Phase: phaseApplying, Rollback: true}, refused, false, false,
			false},
		"expired files":   {attempt{Assignment: half, Phase: phaseApplying}, late, false, false, false},
		"no way back":     {attempt{Assignment: half, Phase: phaseApplying}, refused, true, false, true},
		"a first install": {attempt{Assignment: half, Phase: phaseApplying}, refused, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
			l := &loop{agent: &Agent{client: &plane.Client{}}}
			s := &l.state
			s.journal = journal{Accepted: &half, LastGood: &good, Attempt: &c.attempt, Dirty: true,
				NoReturn: c.noReturn}
			if c.first {
				s.LastGood = nil
			}
			offer := func(release string, sequence int64) {
				a := cells.Assignment{Channel: "stable", Release: release, Digest: releases.Digest("sha256:" + release),
					Sequence: sequence}
				s.handleOffer(&a, now)
				s.handleConfirmation(a.Key(), now)
			}
			offer("9.9.9", 3)
			tries := 0
			do := s.nextStep(now)
			for ; do.Task == taskPrepare && tries < 20; tries++ {
				l.foldResult(do, stepResult{err: c.err, unverified: true}, now)
				now = now.Add(time.Hour)
				do = s.nextStep(now)
			}
			if c.stays {
				if tries < 20 || len(s.Failures) > 0 {
					t.Errorf("it goes on with %+v", do)
				}
				return
			}
			if tries != verifyTries+1 || do.Task != taskApply || !do.Rollback || do.Assignment.Release != "1.0.0" {
				t.Fatalf("after %d tries it does %+v", tries, do)
			}
			alarms := 0
			for _, e := range s.events {
				if e.Kind == "refused" {
					alarms++
				}
			}
			if want := map[bool]int{true: 1}[c.err == refused]; alarms != want {
				t.Errorf("%d alarms, want %d: %+v", alarms, want, s.events)
			}
			offer("9.9.10", 4)
			if do = s.nextStep(now); do.Task != taskApply || !do.Rollback {
				t.Fatalf("another offer keeps the last good one from coming back: %+v", do)
			}
			l.foldResult(do, stepResult{}, now)
			if do = s.nextStep(now); s.Dirty || do.Task != taskPrepare || do.Assignment.Release != "9.9.10" {
				t.Fatalf("then it does %+v", do)
			}
			l.foldResult(do, stepResult{err: c.err, unverified: true}, now)
			do = s.nextStep(now)
			if do.Assignment == nil || do.Assignment.Release != "1.0.0" || len(s.Failures) > 0 {
				t.Errorf("the last good one is not watched: %+v, failures %+v", do, s.Failures)
			}
		})
	}
}

// An apply whose release can't be verified any more, since both copies are damaged, goes back.
func TestT4UnverifiedApplyGoesBack(t *testing.T) {
	t.Parallel()
	good := cells.Assignment{Release: "1.0.0", Digest: "sha256:a", Sequence: 1}
	half := cells.Assignment{Release: "1.1.0", Digest: "sha256:b", Sequence: 2}
	l := &loop{agent: &Agent{client: &plane.Client{}}}
	l.state.journal = journal{Accepted: &half, LastGood: &good, Dirty: true,
		Attempt: &attempt{Assignment: half, Phase: phaseApplying}}
	now := time.Now()
	damaged := stepResult{err: &cells.UnavailableError{Cause: &signatures.DamagedError{}}, unverified: true}
	for range verifyTries + 1 {
		do := l.state.nextStep(now)
		if do.Task != taskApply || do.Rollback {
			t.Fatalf("it does %+v", do)
		}
		l.foldResult(do, damaged, now)
		now = now.Add(time.Hour)
	}
	if do := l.state.nextStep(now); do.Task != taskApply || !do.Rollback {
		t.Errorf("it does %+v", do)
	}
}

// keeperOf returns a Keeper that let the repository's head through.
func keeperOf(t *testing.T, r *trusttest.Repository, at time.Time) *signatures.Keeper {
	t.Helper()
	b, err := r.Bundle()
	must(t, err)
	k, _, err := signatures.Open(signatures.Options{Dir: t.TempDir(), Root: releases.DigestBytes(b.Roots[0])})
	must(t, err)
	must(t, k.Admit(&cells.Assignment{Channel: trusttest.Channel, Release: trusttest.Version,
		Digest: trusttest.Digest()}, "", b, at))
	return k
}

// What is under way goes on as another channel's without new signatures, be it an apply or the way back.
func TestWhatIsUnderWayNeedsNoNewSignature(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r, err := trusttest.New(now)
	must(t, err)
	l := &loop{agent: &Agent{client: &plane.Client{}}, signatures: keeperOf(t, r, now)}
	passed := cells.Assignment{Channel: "other", Release: trusttest.Version, Digest: trusttest.Digest()}
	must(t, l.verifyRelease(t.Context(), step{Task: taskApply, Assignment: &passed}, nil, true))
	good := cells.Assignment{Channel: trusttest.Channel, Release: "1.0.0", Digest: "sha256:a"}
	moved := good
	moved.Channel, moved.Sequence = "other", 7
	must(t, l.verifyRelease(t.Context(), step{Task: taskApply, Assignment: &moved}, &good, true))
}

// T7: below what the cell may hold only the signed head leads, be that good yet or not.
func TestT7NoWayDownFromWhatIsNotGoodYet(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r, err := trusttest.New(now)
	must(t, err)
	between := cells.Assignment{Channel: trusttest.Channel, Release: "1.0.5", Digest: releases.DigestBytes([]byte("x"))}
	r.List("1.0.5", between.Digest, trusttest.Channel)
	k := keeperOf(t, r, now)
	b, err := r.Bundle()
	must(t, err)
	for name, c := range map[string]struct {
		good  string
		dirty bool
		want  string
	}{
		"nothing is good yet":     {"", true, "1.1.0"},
		"and nothing was written": {"", false, "1.1.0"},
		"half-written":            {"1.0.0", true, "1.1.0"},
		"whole":                   {"1.0.0", false, "1.0.0"},
		"on the way down":         {"1.2.0", true, "1.2.0"},
		"without a version":       {"first", true, "1.1.0"},
	} {
		var good *cells.Assignment
		if c.good != "" {
			good = &cells.Assignment{Release: c.good}
		}
		running := runningRelease(k, good, c.dirty)
		if running != c.want {
			t.Errorf("%s: %q", name, running)
		}
		if err := k.Admit(&between, running, b, now); (err == nil) != (c.want == "1.0.0") {
			t.Errorf("%s: 1.0.5: %v", name, err)
		}
		if c.want == "1.0.0" { // so that the head is the newest again
			must(t, k.Admit(&cells.Assignment{Channel: trusttest.Channel, Release: trusttest.Version,
				Digest: trusttest.Digest()}, running, b, now))
		}
	}
}

// A cell without a root of trust asks for no signatures.
func TestUnsignedCellAsksNobody(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	asked := false
	p.update(func() {
		p.refuse = func(_ http.ResponseWriter, r *http.Request) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			asked = asked || r.URL.Path == "/v1/trust"
			return false
		}
	})
	start(t, newSettings(t, p))
	a := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(a)
	p.await(t, "healthy", healthyOn(a))
	p.mu.Lock()
	defer p.mu.Unlock()
	if asked {
		t.Error("it asked for signatures")
	}
}

// T3: a process that is killed (SIGKILL) after any write of what it believes goes on, and takes nothing older.
func TestT3KilledAtEachFile(t *testing.T) {
	t.Parallel()
	p, _, good, old := newSignedControlPlane(t)
	k := newAgentProcess(t, p)
	k.TrustRoot = releases.DigestBytes(old.Roots[0])
	p.assign(good)
	for range 2 { // the pin, and then what was verified first
		for _, file := range []string{"trust-a.json", "trust-b.json"} {
			k.start(file, 0)
			k.awaitDeath()
		}
	}
	k.start("", 0)
	p.await(t, "healthy after every kill", healthyOn(good))
	k.kill()
	kept, err := signatures.Load(k.State)
	must(t, err)
	if kept.State.RootVersion() != 1 || len(kept.Passed) != 1 || kept.Passed[0].Digest != good.Digest {
		t.Errorf("kept: root %d, passed %v", kept.State.RootVersion(), kept.Passed)
	}
}

// signedFlags returns the parts that signers sign of a flags repository, and a bundle of all of it.
func signedFlags(t *testing.T) ([]trust.Part, func() flags.Bundle) {
	t.Helper()
	tree := repository.Load(nil, fstest.MapFS{
		"sluice.yaml": {Mode: 0o644, Data: []byte("apiVersion: sluice/v1\nkind: Flags\nzone: UTC\ntrustAuthors: true\n")},
		"flags/all.yaml": {Mode: 0o644, Data: []byte(`flags:
  plain: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "on"}
  classes: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "on", metadata: {feature: classes, off: "off"}}
  soon: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "on", metadata: {feature: soon, off: "off"}}
`)},
		"announcements/classes.yaml": {Mode: 0o644, Data: []byte("apiVersion: sluice/v1\nkind: Announcement\n" +
			"title: Classes\nfeatures: [classes]\npublishAt: \"2020-01-01T00:00:00\"\n")},
		"announcements/soon.yaml": {Mode: 0o644, Data: []byte("apiVersion: sluice/v1\nkind: Announcement\n" +
			"title: Soon\nfeatures: [soon]\npublishAt: \"2999-01-01T00:00:00\"\n")},
	})
	if tree.Invalid {
		t.Fatal(tree.Faults)
	}
	made, err := signed.Make(tree, map[string]bool{trusttest.Channel: false})
	must(t, err)
	var parts []trust.Part
	for _, p := range made {
		parts = append(parts, trust.Part(p))
	}
	return parts, func() flags.Bundle {
		b := flags.Bundle{Version: flags.BundleVersion, Channel: trusttest.Channel, Flags: map[string]json.RawMessage{}}
		for key, d := range tree.Flags {
			b.Flags[key] = d.Encode()
		}
		at := func(id string) int64 {
			when, _, _ := tree.Announcements[id].When(trusttest.Channel, false)
			return when.Unix()
		}
		b.Gates = []flags.Gate{{ID: "classes", Features: []string{"classes"}, At: at("classes")},
			{ID: "soon", Features: []string{"soon"}, At: at("soon")}}
		return b
	}
}

// T1 for flags: a control plane that was taken over, with the online keys, turns on nothing that signers did not sign,
// and nothing before its time. The flags in force stay, each refusal says why, and kills need no signature.
func TestT1EvilFlags(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	r, err := trusttest.New(time.Now())
	must(t, err)
	parts, bundle := signedFlags(t)
	r.SignFlags(parts...)
	good := p.addRelease(t, "1.1.0", 1, agenttest.ReleaseWithFeatures("1.1.0", "classes", "soon"))
	good.Channel = trusttest.Channel
	r.List("1.1.0", good.Digest, trusttest.Channel)
	r.Pick("1.1.0", good.Digest)
	first, err := r.Bundle()
	must(t, err)
	serveTrust(t, p, r)
	s := newSettings(t, p)
	s.TrustRoot = releases.DigestBytes(first.Roots[0])
	product := serveFlags(t, &s)
	start(t, s)
	p.assign(good)
	f := p.newFlags(1, bundle())
	p.setFlags(f)
	p.await(t, "healthy on the signed release", healthyOn(good))
	p.await(t, "signed flags in force", flagsInForce(f))
	product.awaitFlag("classes", "true")
	product.awaitFlag("plain", "true")
	product.awaitFlag("soon", "false")

	height := int64(1)
	for _, attack := range []struct {
		name, words string
		change      func(evil *trusttest.Repository, b *flags.Bundle)
	}{
		{"another value", `the signers did not sign flag "plain"`, func(_ *trusttest.Repository, b *flags.Bundle) {
			b.Flags["plain"] = featureFlag("classes")
		}},
		{"before its time", "before the time that was signed", func(_ *trusttest.Repository, b *flags.Bundle) {
			b.Gates[1].At = 1
		}},
		{"an announcement of its own", "the signers did not sign it", func(_ *trusttest.Repository, b *flags.Bundle) {
			b.Gates = append(b.Gates, flags.Gate{ID: "zzz", Features: []string{"soon"}, At: 1})
		}},
		{"signed by the engine and one signer", "the flags file",
			func(evil *trusttest.Repository, b *flags.Bundle) {
				evil.Roles[trust.RoleFlags].Signed["targets"] = map[string]any{}
				evil.Roles[trust.RoleFlags].By = []string{"engine", "ada"}
				evil.Renew(trust.RoleFlags)
				b.Gates = nil
			}},
		{"signers who sign no flags any more", "the targets file", func(evil *trusttest.Repository, b *flags.Bundle) {
			delete(evil.Roles, trust.RoleFlags)
			policy := evil.Roles[trust.RoleTargets]
			roles := policy.Signed["delegations"].(map[string]any)
			roles["roles"] = roles["roles"].([]any)[:3]
			policy.By = []string{"engine", "ada"}
			evil.Renew(trust.RoleTargets)
			evil.Renew() // newer than those of the attack before
			b.Gates = b.Gates[:1]
		}},
	} {
		evil, b := r.Clone(), bundle()
		attack.change(evil, &b)
		height++
		since := p.reportCount()
		serveTrust(t, p, evil)
		p.setFlags(p.newFlags(height, b))
		p.awaitAfter(t, since, attack.name+" is refused", func(r cells.Report) bool {
			return r.Flags != nil && strings.Contains(r.Flags.Fault, attack.words) && r.Flags.Bundle == f.Bundle.Digest
		})
		for flag, want := range map[string]string{"classes": "true", "plain": "true", "soon": "false"} {
			product.wantFlag(flag, want)
		}
	}
	evil := bundle()
	evil.Gates[1].At = 1
	p.setFlags(p.newFlags(height+1, evil, "classes"))
	product.awaitFlag("classes", "false")
	product.wantFlag("soon", "false")
	for range 9 { // newer than what the attacker signed with the engine's key
		r.Renew(trust.RoleTargets, trust.RoleReleases, trust.RoleFlags)
	}
	serveTrust(t, p, r)
	last := p.newFlags(height+2, bundle())
	p.setFlags(last)
	p.await(t, "signed flags again", flagsInForce(last))
	product.awaitFlag("classes", "true")
}
