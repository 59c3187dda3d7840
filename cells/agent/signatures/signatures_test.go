package signatures

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
)

var now = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

func digest(text string) releases.Digest { return releases.DigestBytes([]byte(text)) }

// honest returns a repository whose signers list four releases: 1.0.0 and 1.1.0 for the cell's channel, 1.2.0 for
// another one, and 0.9.0 and 1.0.5, which they revoke by floor and by name.
func honest(t testing.TB) *trusttest.Repository {
	t.Helper()
	r, err := trusttest.New(now)
	if err != nil {
		t.Fatal(err)
	}
	r.List("1.0.0", digest("1.0.0"), trusttest.Channel, "other")
	r.List("1.2.0", digest("1.2.0"), "other")
	r.List("0.9.0", digest("0.9.0"), trusttest.Channel)
	r.List("1.0.5", digest("1.0.5"), trusttest.Channel)
	r.Restrict("1.0.0", "1.0.5")
	return r
}

func bundle(t testing.TB, r *trusttest.Repository) trust.Bundle {
	t.Helper()
	b, err := r.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pinOf returns the digest of a repository's first root.
func pinOf(t testing.TB, r *trusttest.Repository) releases.Digest {
	return releases.DigestBytes(bundle(t, r).Roots[0])
}

func assign(version string, d releases.Digest) *cells.Assignment {
	return &cells.Assignment{Channel: trusttest.Channel, Epoch: 1, Sequence: 1, Release: version, Digest: d}
}

// head is what the honest engine picked.
func head() *cells.Assignment { return assign(trusttest.Version, trusttest.Digest()) }

func open(t testing.TB, o Options) *Keeper {
	t.Helper()
	k, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pinned(t testing.TB, r *trusttest.Repository) *Keeper {
	return open(t, Options{Dir: t.TempDir(), Root: pinOf(t, r)})
}

func want(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want an error with %q", err, words)
	}
}

// T1, T5: a release passes if enough signers signed it for the channel, at or above the floor, and nobody revoked it.
func TestT1OnlySignedReleasesPass(t *testing.T) {
	r := honest(t)
	k := pinned(t, r)
	for name, c := range map[string]struct {
		a     *cells.Assignment
		words string
	}{
		"no signature":    {assign("9.9.9", digest("evil")), "the signers did not sign 9.9.9"},
		"other bytes":     {assign(trusttest.Version, digest("evil")), "the signers signed 1.1.0 with digest"},
		"another name":    {assign("1.0.0", trusttest.Digest()), "the signers signed 1.0.0 with digest"},
		"another channel": {assign("1.2.0", digest("1.2.0")), "for other, not for dedicated"},
		"below the floor": {assign("0.9.0", digest("0.9.0")), "below the signers' floor"},
		"revoked":         {assign("1.0.5", digest("1.0.5")), "revoked 1.0.5: it loses data"},
		"no version":      {assign("latest", digest("evil")), "names release"},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, k.Admit(c.a, "", bundle(t, r), now), c.words)
			if k.HasPassed(c.a) {
				t.Error("it passed all the same")
			}
		})
	}
	if err := k.Admit(head(), "", bundle(t, r), now); err != nil || !k.HasPassed(head()) {
		t.Errorf("the signed head: %v", err)
	}
	moved := head()
	moved.Channel = "other"
	want(t, k.Admit(moved, "", bundle(t, r), now), "this cell follows channel dedicated")
	k = open(t, Options{Dir: k.dir, Channel: "other"})
	if is := k.Kept().Channel; is != "other" {
		t.Errorf("the owner moved the cell, and it follows %s", is)
	}
}

// T1: every attack of the corpus, as a cell meets it from its first contact on.
func TestT1Corpus(t *testing.T) {
	corpus, err := trusttest.Corpus(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range corpus {
		k := open(t, Options{Dir: t.TempDir(), Root: releases.DigestBytes(c.Root)})
		var err error
		for i, b := range c.Told {
			if i == 0 {
				b.Roots = append([][]byte{c.Root}, b.Roots...)
			}
			if err = k.Admit(head(), "", b, now); err != nil || !c.Flags {
				continue
			}
			var parts []trust.Part
			if parts, _, err = k.FlagParts(trusttest.Channel, b, now); err == nil {
				err = c.Allows(&trust.Trusted{FlagsSigned: true, Parts: parts})
			}
		}
		if want := c.Valid && !c.Stricter; want != (err == nil) {
			t.Errorf("%s: valid %v, got %v", c.Name, want, err)
		}
	}
}

// A cell whose root of trust is far from the first one begins with it, and not with the oldest roots.
func TestPinnedFarFromTheFirstRoot(t *testing.T) {
	r := honest(t)
	for range trust.MaxRotations + 9 {
		r.Rotate()
	}
	told := bundle(t, r)
	p := &trust.Published{Ledger: &trust.Ledger{},
		Served: &trust.Served{Timestamp: told.Timestamp, Snapshot: told.Snapshot}}
	for i, data := range told.Roots {
		p.Ledger.Roots = append(p.Ledger.Roots, &trust.File{Version: int64(i + 1), Digest: releases.DigestBytes(data),
			Data: data})
	}
	k := open(t, Options{Dir: t.TempDir(), Root: p.Ledger.Roots[trust.MaxRotations+3].Digest})
	have, pin := k.Root()
	b := p.Bundle(trusttest.Channel, have, pin)
	b.Roles = told.Roles
	if err := k.Admit(head(), "", b, now); err != nil {
		t.Fatal(err)
	}
	if newest, _ := k.Root(); newest != trust.MaxRotations+10 {
		t.Errorf("the newest root is %d", newest)
	}
	b = p.Bundle(trusttest.Channel, 0, "") // of an agent that names none
	if first := p.Ledger.Roots[0].Data; len(b.Roots) != trust.MaxRotations || !bytes.Equal(b.Roots[0], first) {
		t.Errorf("%d roots", len(b.Roots))
	}
}

// T6: a verification has one instant. What it reads, keeps and says is of that instant, however the machine's clock
// moves meanwhile and wherever it stands.
func TestT6OneInstant(t *testing.T) {
	t.Parallel()
	r := honest(t) // before the bubble: its clock begins in 2000
	told, pin, dir := bundle(t, r), pinOf(t, r), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		writes := 0
		k := open(t, Options{Dir: dir, Root: pin, OnTestPoint: func(string) {
			writes++
			time.Sleep(30 * 365 * 24 * time.Hour) // the clock moves in the middle: all files expired long ago
		}})
		before := time.Now()
		if err := k.Admit(head(), "", told, now); err != nil {
			t.Fatal(err)
		}
		if moved := time.Since(before); writes == 0 || moved < 30*365*24*time.Hour {
			t.Fatalf("the clock moved by %s in %d writes", moved, writes)
		}
		is := k.Kept()
		if !is.Verified.Equal(now) || !is.Passed[0].At.Equal(now) || !is.Until.After(now) {
			t.Errorf("verified at %s, passed at %s, good until %s", is.Verified, is.Passed[0].At, is.Until)
		}
		if err := k.Admit(head(), "", told, now.Add(time.Hour)); err != nil {
			t.Errorf("the machine's clock counts: %v", err)
		}
		if err := k.Admit(head(), "", told, now.Add(25*time.Hour)); !errors.Is(err, trust.ErrExpired) {
			t.Errorf("a day later: %v", err)
		}
	})
}

// The engine's head: going up to it, other values, and first installs need no more than signatures; going down needs
// the head itself, so whoever lacks the online key can't make a cell go back.
func TestHeadLeads(t *testing.T) {
	r := honest(t)
	r.List("1.3.0", digest("1.3.0"), trusttest.Channel)
	for _, c := range []struct {
		to, running string
		passes      bool
	}{
		{"1.1.0", "", true}, {"1.1.0", "1.0.0", true}, {"1.1.0", "1.3.0", true}, {"1.1.0", "1.1.0", true},
		{"1.0.0", "", true}, {"1.0.0", "1.0.0", true}, {"1.0.0", "0.5.0", true}, {"1.0.0", "1.1.0", false},
		{"1.3.0", "1.1.0", false}, {"1.3.0", "", false}, {"1.3.0", "1.3.0", true}, {"1.3.0", "not a version", false},
	} {
		a := head()
		if c.to != trusttest.Version {
			a = assign(c.to, digest(c.to))
		}
		err := pinned(t, r).Admit(a, c.running, bundle(t, r), now)
		if c.passes != (err == nil) || err != nil && !errors.Is(err, ErrNotPicked) {
			t.Errorf("from %q to %s: %v", c.running, c.to, err)
		}
	}
}

// T1: a cell that knows no channel yet takes flags of none: the control plane would choose among those that are signed.
// The owner's word on the channel is as good as a release.
func TestT1NoFlagsWithoutAChannel(t *testing.T) {
	t.Parallel()
	r := honest(t)
	k := pinned(t, r)
	_, signed, err := k.FlagParts(trusttest.Channel, bundle(t, r), now)
	if want(t, err, "no release was verified yet"); !signed {
		t.Error("flags are taken for unsigned ones")
	}
	if err := k.Admit(head(), "", bundle(t, r), now); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.FlagParts(trusttest.Channel, bundle(t, r), now); err != nil {
		t.Error(err)
	}
	_, _, err = k.FlagParts("other", bundle(t, r), now)
	want(t, err, "this cell follows channel")
	named := open(t, Options{Dir: t.TempDir(), Root: pinOf(t, r), Channel: trusttest.Channel})
	if _, _, err := named.FlagParts(trusttest.Channel, bundle(t, r), now); err != nil {
		t.Error(err)
	}
}

// T2: the newest root on disk is what counts, whatever root a token names later. The owner's word begins anew.
func TestT2PinnedRoot(t *testing.T) {
	r := honest(t)
	k, first := pinned(t, r), pinOf(t, r)
	r.Rotate()
	r.Rotate()
	if err := k.Admit(head(), "", bundle(t, r), now); err != nil || k.Kept().State.RootVersion() != 3 {
		t.Fatalf("root %d: %v", k.Kept().State.RootVersion(), err)
	}
	forged := honest(t)
	forged.Roots[0].By = []string{"mallory", "eve"}
	other := pinOf(t, forged)
	for name, o := range map[string]Options{"without a root": {}, "the same root": {Root: first, FromOwner: true},
		"another token": {Root: other}} {
		o.Dir = k.dir
		if again := open(t, o); again.Kept().State.RootVersion() != 3 || again.Kept().Pin != first {
			t.Errorf("%s: root %d of %s", name, again.Kept().State.RootVersion(), again.Kept().Pin)
		}
	}
	want(t, pinned(t, forged).Admit(head(), "", bundle(t, r), now), "no root with digest")
	again := open(t, Options{Dir: k.dir, Root: other, FromOwner: true})
	if is := again.Kept(); is.Pin != other || is.State.Root != nil || again.HasPassed(head()) {
		t.Errorf("after another root from the owner: %+v", is)
	}
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(k.dir, name+before)); err != nil {
			t.Errorf("what was believed before is gone: %v", err)
		}
	}
	for name, o := range map[string]Options{"from the owner": {Dir: k.dir, FromOwner: true},
		"at first": {Dir: t.TempDir()}} {
		o.Root = "sha256:short"
		if _, _, err := Open(o); err == nil {
			t.Errorf("%s: a root that is no digest was pinned", name)
		}
	}
	// A token's root, which is not needed.
	if is := open(t, Options{Dir: k.dir, Root: "sha256:short"}).Kept(); is.Pin != other {
		t.Errorf("it is pinned to %s", is.Pin)
	}
}

// T3: a crash after any write, and damage to either copy in turn, never lead back to older files.
func TestT3Durable(t *testing.T) {
	damage := map[string]func(t *testing.T, file string){
		"cut short": func(t *testing.T, file string) {
			rewrite(t, file, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"a bit": func(t *testing.T, file string) {
			rewrite(t, file, func(b []byte) []byte { b[len(b)/3] ^= 4; return b })
		},
		"empty":    func(t *testing.T, file string) { rewrite(t, file, func([]byte) []byte { return nil }) },
		"other":    func(t *testing.T, file string) { rewrite(t, file, func([]byte) []byte { return []byte("{}") }) },
		"gone":     func(t *testing.T, file string) { must(t, os.Remove(file)) },
		"a folder": func(t *testing.T, file string) { must(t, os.Remove(file)); must(t, os.Mkdir(file, 0o700)) },
	}
	for name, spoil := range damage {
		for i, file := range files {
			t.Run(name+"/"+file, func(t *testing.T) {
				r := honest(t)
				k := pinned(t, r)
				must(t, k.Admit(head(), "", bundle(t, r), now))
				old := bundle(t, r)
				r.Renew(trust.RoleReleases)
				must(t, k.Admit(head(), "", bundle(t, r), now))
				spoil(t, filepath.Join(k.dir, file))
				again, mended, err := Open(Options{Dir: k.dir})
				must(t, err)
				if name == "a folder" { // no process makes one: the other copy counts, and the next write says so
					if mended != "" || !again.HasPassed(head()) {
						t.Errorf("mended %q, passed %v", mended, again.HasPassed(head()))
					}
					unavailable := new(cells.UnavailableError)
					if err := again.Admit(head(), "", bundle(t, r), now); !errors.As(err, &unavailable) {
						t.Errorf("a folder is in the way, and nobody says so: %v", err)
					}
					return
				}
				if mended != file || !again.HasPassed(head()) {
					t.Errorf("mended %q, passed %v", mended, again.HasPassed(head()))
				}
				want(t, again.Admit(head(), "", old, now), "version")
				spoil(t, filepath.Join(k.dir, files[1-i])) // in turn
				again = open(t, Options{Dir: k.dir})
				want(t, again.Admit(head(), "", old, now), "version")
				spoil(t, filepath.Join(k.dir, files[0]))
				spoil(t, filepath.Join(k.dir, files[1]))
				again = open(t, Options{Dir: k.dir, Root: pinOf(t, r)})
				if name == "gone" {
					return // nothing is left that could say so
				}
				want(t, again.Admit(head(), "", bundle(t, r), now), "--trust-root")
				if !again.Pinned() || again.HasPassed(head()) {
					t.Error("with both copies damaged, the cell is not careful")
				}
			})
		}
	}
}

// T3: the process ends after each write, in the middle of both.
func TestT3Crash(t *testing.T) {
	r := honest(t)
	first, token := bundle(t, r), pinOf(t, r)
	for _, point := range files {
		k := open(t, Options{Dir: t.TempDir(), Root: token})
		must(t, k.Admit(head(), "", first, now))
		next := r.Clone()
		next.Rotate()
		next.Renew()
		crash := errors.New("killed")
		k.onTestPoint = func(at string) {
			if at == point {
				panic(crash)
			}
		}
		func() {
			defer func() {
				if is := recover(); is != crash { //nolint:errorlint // the same value
					t.Errorf("no crash at %s: %v", point, is)
				}
			}()
			_ = k.Admit(head(), "", bundle(t, next), now)
		}()
		again := open(t, Options{Dir: k.dir, Root: token})
		if again.Kept().State.RootVersion() != 2 {
			t.Errorf("after a crash at %s the root is %d", point, again.Kept().State.RootVersion())
		}
		want(t, again.Admit(head(), "", first, now), "version")
		must(t, again.Admit(head(), "", bundle(t, next), now))
	}
	dir := t.TempDir() // of the very first write only one copy is there
	must(t, open(t, Options{Dir: dir, Root: token}).Admit(head(), "", first, now))
	must(t, os.Remove(filepath.Join(dir, files[1])))
	if !open(t, Options{Dir: dir}).HasPassed(head()) {
		t.Error("one copy does not do")
	}
}

// T4, T6: what expired lets nothing new pass, whichever file it is, and takes nothing back.
func TestT4Expired(t *testing.T) {
	for _, role := range trusttest.Roles() {
		r := honest(t)
		k := pinned(t, r)
		must(t, k.Admit(head(), "", bundle(t, r), now))
		doc := r.Roles[role]
		switch role {
		case trust.RoleRoot:
			doc = r.Rotate()
		case trust.RoleTimestamp:
			doc = r.Timestamp
		case trust.RoleSnapshot:
			doc = r.Snapshot
		}
		doc.Signed["expires"] = now.Add(time.Hour).Format(time.RFC3339)
		if role == trust.RoleTargets || role == trust.RoleReleases {
			r.Renew(role)
		} else {
			r.Renew()
		}
		other := assign("1.0.0", digest("1.0.0"))
		must(t, k.Admit(other, "", bundle(t, r), now.Add(59*time.Minute)))
		err := k.Admit(head(), "1.0.0", bundle(t, r), now.Add(time.Hour+time.Second))
		if !errors.Is(err, trust.ErrExpired) || !strings.Contains(err.Error(), role) {
			t.Errorf("%s expired: %v", role, err)
		}
		if !k.HasPassed(other) || !k.HasPassed(head()) {
			t.Errorf("%s expired, and what had passed is forgotten", role)
		}
	}
	r := honest(t)
	k := pinned(t, r)
	if err := k.Admit(head(), "", bundle(t, r), now.AddDate(-1, 0, 0)); err != nil { // a clock a year behind
		t.Error(err)
	}
	if err := k.Admit(head(), "", bundle(t, r), now.Add(48*time.Hour)); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("a clock two days ahead: %v", err)
	}
}

// A key that was rotated away binds nobody: the greatest version that it signed is forgotten.
func TestRecoveryFromTheGreatestVersion(t *testing.T) {
	r := honest(t)
	k := pinned(t, r)
	evil := r.Clone()
	channel := trust.ChannelRole(trusttest.Channel)
	for _, d := range []*trusttest.Doc{evil.Timestamp, evil.Snapshot, evil.Roles[channel]} {
		d.Signed["version"] = int64(1) << 52
	}
	evil.Describe()
	must(t, k.Admit(head(), "", bundle(t, evil), now))
	r.Renew()
	want(t, k.Admit(head(), "", bundle(t, r), now), "version")
	text, err := json.Marshal(r.Rotate().Signed)
	must(t, err)
	replace := func(d *trusttest.Doc, text []byte) {
		fresh := trusttest.KeyFile("engine-2")
		text = []byte(strings.ReplaceAll(string(text), trusttest.KeyID("engine"), trusttest.KeyID("engine-2")))
		text = []byte(strings.ReplaceAll(string(text), trusttest.KeyFile("engine"), fresh))
		d.Signed = trusttest.JSON{}
		must(t, json.Unmarshal(text, &d.Signed))
	}
	replace(r.Roots[1], text)
	text, err = json.Marshal(r.Roles[trust.RoleTargets].Signed)
	must(t, err)
	replace(r.Roles[trust.RoleTargets], text)
	for _, d := range []*trusttest.Doc{r.Timestamp, r.Snapshot, r.Roles[channel]} {
		d.By = []string{"engine-2"}
	}
	r.Roles[trust.RoleTargets].Signed["version"] = trusttest.FirstVersion + 1
	r.Describe()
	if err := k.Admit(head(), "", bundle(t, r), now); err != nil {
		t.Errorf("after the engine's key was rotated the cell takes nothing: %v", err)
	}
}

// Without a root a cell works as it always did.
func TestUnsigned(t *testing.T) {
	dir := t.TempDir()
	k := open(t, Options{Dir: dir, Channel: "other"})
	if k.Pinned() {
		t.Error("a root came from nowhere")
	}
	if kept, err := Load(dir); kept != nil || err != nil {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func rewrite(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, change(text), 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
