package plan_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// Keys of nobody in particular.
const (
	engineKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGy"
	nextKey    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIABVsblXaMYoHk0K0W0IjrDPC32EuMz7IYppkjvtjxuR"
	malloryKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHhbaWlf8T1wT4f1y2qMlT0Aw8dEYB9X9bV9yYsXh7j"
)

func pipeline(engine string) map[string]string {
	return map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\n" + engine}
}

func listed(keys ...string) map[string]string {
	return pipeline("engine: {keys: [\"" + strings.Join(keys, "\", \"") + "\"]}\n")
}

// signedWorld is a settled pipeline whose engine signs, and where mallory signs too.
func signedWorld(t *testing.T) *World {
	t.Helper()
	w := TwoChannels(t).ReportInstalled()
	w.Signs = map[string]string{"sluice": engineKey, "mallory": malloryKey}
	w.Commit("sluice", "list the engine's key", listed(engineKey))
	w.Settle()
	return w
}

// forge commits, as somebody, what the engine would.
func forge(w *World, as string) {
	w.T.Helper()
	chain, _, err := plan.Drafts(w.Desired(), w.Plan(), nil)
	if err != nil || len(chain) == 0 {
		w.T.Fatal(len(chain), err)
	}
	for _, d := range chain {
		files := map[string]string{}
		for name, data := range d.Files {
			files[name] = string(data)
		}
		w.Commit(as, d.Message, files)
	}
}

// R46: what looks like the engine's and is not signed by a listed key is a request.
func TestForgedDecision(t *testing.T) {
	for _, as := range []string{"mallory", "eve"} {
		w := signedWorld(t)
		before := w.Desired().Channels["staging"].Effective.Release
		w.Commit("bob", "cut", Release("1.1.0"))
		forge(w, as)
		c := w.Desired().Channels["staging"]
		if c.Effective.Release != before || c.Request == nil || c.Request.Release != "1.1.0" {
			t.Errorf("%s: head %+v, request %+v", as, c.Effective, c.Request)
		}
		w.Settle()
		w.WantHead("staging", "1.1.0") // by the engine's own decision
	}
}

// R46: unsigned heads of the past count; from the commit that lists keys on, they don't.
func TestAdoption(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.WantHead("staging", "1.1.0")
	w.Signs = map[string]string{"sluice": engineKey}
	w.Commit("sluice", "list the engine's key", listed(engineKey))
	w.WantHead("staging", "1.1.0")
	w.Commit("bob", "cut", Release("1.2.0"))
	forge(w, "eve")
	w.WantHead("staging", "1.1.0")
}

// R46: the list of keys changes only by a commit that one of them signed.
func TestEngineKeysChange(t *testing.T) {
	w := signedWorld(t)
	for _, text := range []map[string]string{listed(engineKey, malloryKey), listed(malloryKey),
		pipeline("engine: unsigned\n"), pipeline("")} {
		w.Commit("mallory", "mine", text)
		d := w.Desired()
		if !d.Authority.Trust(engineKey) || d.Authority.Trust(malloryKey) || d.Authority.Trust("") {
			t.Errorf("%s: %+v", text["sluice.yaml"], d.Authority)
		}
		if len(d.Faults) == 0 || d.Faults[0].File != "sluice.yaml" ||
			!strings.Contains(d.Faults[0].Message, "which no listed key signed") {
			t.Errorf("faults %v", d.Faults)
		}
	}
	w.Commit("mallory", "put back", listed(engineKey))
	if d := w.Desired(); len(d.Faults) != 0 {
		t.Errorf("faults %v", d.Faults)
	}
	w.Commit("sluice", "rotate", listed(engineKey, nextKey))
	w.Signs["sluice"] = nextKey
	w.Commit("sluice", "rotated", listed(nextKey))
	if d := w.Desired(); !d.Authority.Trust(nextKey) || d.Authority.Trust(engineKey) {
		t.Errorf("%+v", d.Authority)
	}
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.WantHead("staging", "1.1.0")
}

// R46: a repository that says that it does without signatures is believed as it is.
func TestUnsigned(t *testing.T) {
	w := TwoChannels(t)
	w.Commit("ada", "do without", pipeline("engine: unsigned\n"))
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	forge(w, "eve")
	w.WantHead("staging", "1.1.0")
	if f := w.Desired().Faults; len(f) != 1 || !f[0].Warning || !strings.Contains(f[0].Message, "whoever may push") {
		t.Errorf("faults %v: it is not repeated that nothing is signed", f)
	}
	w.Commit("ada", "sign from now on", listed(engineKey)) // from unsigned to keys, anybody may
	if !w.Desired().Authority.Enforced() {
		t.Error("the keys do not count")
	}
}

// R46: whoever signs, a head counts only with the release's own bytes, at a commit that has them, by verdicts of all
// gates.
func TestUnjustifiedDecision(t *testing.T) {
	for name, change := range map[string]func(decision string) string{
		"other bytes": func(s string) string {
			return regexp.MustCompile(`(?m)^  "digest": ".*"`).ReplaceAllString(s,
				`  "digest": "sha256:`+strings.Repeat("0", 64)+`"`)
		},
		"other commit":  func(s string) string { return strings.ReplaceAll(s, `"commit": "`, `"commit": "0000`) },
		"gate missing":  func(s string) string { return strings.ReplaceAll(s, `"gate": "soak"`, `"gate": "freeze"`) },
		"gate blocking": func(s string) string { return strings.ReplaceAll(s, `"holds": true`, `"holds": false`) },
	} {
		t.Run(name, func(t *testing.T) {
			w := signedWorld(t)
			w.CutAndInstall("staging", "1.1.0")
			for range 90 {
				w.Wait(time.Minute, "staging", "dedicated")
				if p := w.Plan(); strings.Contains(Kinds(p), "promote 1.1.0 dedicated") {
					break
				}
				w.Run()
			}
			chain, _, err := plan.Drafts(w.Desired(), w.Plan(), nil)
			if err != nil || len(chain) != 1 {
				t.Fatal(len(chain), err)
			}
			decision := change(string(chain[0].Files["channels/dedicated/decision.json"]))
			if decision == string(chain[0].Files["channels/dedicated/decision.json"]) {
				t.Fatalf("nothing is forged in %s", decision)
			}
			w.Commit("sluice", regexp.MustCompile(`Decision: .*`).ReplaceAllString(chain[0].Message,
				"Decision: "+plan.HashOf([]byte(decision))),
				map[string]string{"channels/dedicated/decision.json": decision,
					"channels/dedicated/head.yaml": headOf(t, decision)})
			c := w.Desired().Channels["dedicated"]
			if c.Effective.Release != "1.0.0" || c.Request == nil {
				t.Errorf("head %+v, request %+v", c.Effective, c.Request)
			}
		})
	}
}

// headOf is the head.yaml that belongs to a decision.
func headOf(t *testing.T, decision string) string {
	t.Helper()
	var d plan.Decision
	if err := json.Unmarshal([]byte(decision), &d); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("release: %s\ncommit: %s\ndigest: %s\nsequence: %d\n", d.Release, d.Commit, d.Digest, d.Sequence)
}

// R46: of an identity.yaml people may write that it is revoked, and nothing else.
func TestIdentityByHand(t *testing.T) {
	const file = "cells/s1/identity.yaml"
	identity := func(more string) string {
		return "apiVersion: sluice/v1\nkind: Identity\nepoch: 1\nserial: 2\n" + more
	}
	const key, other = "publicKey: ed25519:b2xk\n", "publicKey: ed25519:bmV3\n"
	for name, c := range map[string]struct {
		by, text string
		want     cells.Identity // as far as it is compared: key and revoked
		fault    bool
	}{
		"another key":           {"mallory", identity(other), cells.Identity{PublicKey: "ed25519:b2xk"}, true},
		"another key, unsigned": {"eve", identity(other), cells.Identity{PublicKey: "ed25519:b2xk"}, true},
		"revoked": {"eve", identity(key + "revoked: true\n"),
			cells.Identity{PublicKey: "ed25519:b2xk", Revoked: true}, false},
		"revoked, another key": {"eve", identity(other + "revoked: true\n"),
			cells.Identity{PublicKey: "ed25519:b2xk", Revoked: true}, true},
		"removed": {"eve", "", cells.Identity{PublicKey: "ed25519:b2xk"}, true},
		"garbage": {"eve", "\x00{{", cells.Identity{PublicKey: "ed25519:b2xk"}, true},
		"a serial ahead": {"eve", strings.Replace(identity(key), "serial: 2", "serial: 99", 1),
			cells.Identity{PublicKey: "ed25519:b2xk"}, true},
		"the engine's": {"sluice", identity(other), cells.Identity{PublicKey: "ed25519:bmV3"}, false},
		"a field of tomorrow": {"sluice", identity(other + "tomorrow: yes\n"),
			cells.Identity{PublicKey: "ed25519:bmV3"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := signedWorld(t)
			w.Commit("sluice", "identify s1", map[string]string{file: identity(key)})
			w.Commit(c.by, "change", map[string]string{file: c.text})
			d := w.Desired()
			got := d.Cells["s1"].Identity
			if got.PublicKey != c.want.PublicKey || got.Revoked != c.want.Revoked || got.Serial > 2 {
				t.Errorf("identity %+v, want %+v", got, c.want)
			}
			faults := 0
			for _, f := range d.Faults {
				if f.File == file && !f.Warning {
					faults++
				}
			}
			if (faults > 0) != c.fault {
				t.Errorf("faults %v", d.Faults)
			}
			if len(d.Cells["s1"].Faults) > 0 {
				t.Errorf("the cell stands still: %v", d.Cells["s1"].Faults)
			}
			w.Commit(c.by, "gone", map[string]string{file: "", "cells/s1/cell.yaml": ""})
			if w.Desired().Cells["s1"] != nil {
				t.Error("a cell that was removed is there")
			}
		})
	}
}

// R46: a halt that another made keeps the engine from nothing.
func TestForgedHalt(t *testing.T) {
	w := signedWorld(t)
	n := w.Desired().Channels["staging"].Effective.Sequence
	w.Commit("mallory", "halt", map[string]string{"channels/staging/holds/halt-" + string(rune('0'+n)) +
		".yaml": "reason: mine\n"})
	if halted := w.Desired().Channels["staging"].Halted; len(halted) != 0 {
		t.Errorf("halted at %v", halted)
	}
}

// R46: the channel that a quarantine's release failed in is the engine's evidence; of a person's the file holds
// without.
func TestForgedFailedIn(t *testing.T) {
	for as, want := range map[string]string{"sluice": "dedicated", "mallory": ""} {
		w := signedWorld(t)
		w.Commit(as, "stop it",
			map[string]string{"quarantine/1.0.0.yaml": "digest: @digest:1.0.0\nreason: bad\nfailedIn: dedicated\n"})
		if q := w.Desired().Quarantine; len(q) != 1 || q[0].FailedIn != want {
			t.Errorf("%s: %+v", as, q)
		}
	}
}

// R24, R46: neither a tombstone nor a removal takes a release that a channel may go back to.
func TestWayBackStays(t *testing.T) {
	gone := map[string]string{"releases/1.0.0/release.yaml": "", "releases/1.0.0/kustomization.yaml": "",
		"releases/1.0.0/app.yaml": ""}
	for name, more := range map[string]map[string]string{
		"tombstone":        {"releases/1.0.0/tombstone.yaml": "apiVersion: sluice/v1\nkind: Tombstone\nversion: 1.0.0\ndigest: @digest:1.0.0\n"},
		"of another bytes": {"releases/1.0.0/tombstone.yaml": "apiVersion: sluice/v1\nkind: Tombstone\nversion: 1.0.0\ndigest: sha256:" + strings.Repeat("0", 64) + "\n"},
		"removed":          {},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, "")
			w.CutAndInstall("staging", "1.1.0")
			files := maps.Clone(gone)
			for file, text := range more {
				files[file] = strings.ReplaceAll(text, "@digest:1.0.0", string(w.Digest("1.0.0")))
			}
			w.Commit("eve", "prune 1.0.0", files)
			if f := w.Desired().Faults; len(f) != 1 || !strings.Contains(f[0].Message, "put it back") {
				t.Errorf("faults %v", f)
			}
			w.Commit("bob", "cut", Release("1.2.0"))
			w.Settle()
			w.WantHead("staging", "1.2.0")
			w.Commit("eve", "stop it",
				map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: bad\n"})
			w.ReportFailed("s1", "broken")
			w.WantActions("rollback 1.0.0 staging; quarantine 1.2.0 staging")
		})
	}
}

// R46: an engine with a key lists it in a repository that says nothing of keys, before all else, once.
func TestAdopt(t *testing.T) {
	w := One(t, "")
	w.Signs = map[string]string{"sluice": engineKey}
	w.Obs.Key = engineKey
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("adopt  ")
	d := w.Desired()
	if !d.Authority.Enforced() || !d.Authority.Trust(engineKey) {
		t.Errorf("%+v", d.Authority)
	}
	last := w.Changes[len(w.Changes)-1]
	if !strings.Contains(last.Message, "Adopts: staging 1.0.0 sequence 7\n") ||
		!strings.Contains(last.Message, "Engine-Key: "+engineKey+"\n") {
		t.Errorf("message %s", last.Message)
	}
	w.WantActions("promote 1.1.0 staging")
	w.WantHead("staging", "1.1.0")
	for name, c := range map[string]struct{ engine, actions string }{
		"another's key": {"engine: {keys: [\"" + malloryKey + "\"]}\n", ""},
		"unsigned":      {"engine: unsigned\n", "promote 1.1.0 staging"},
		"none, refused": {"", "promote 1.1.0 staging"},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, "", pipeline(c.engine))
			w.Obs.Key = engineKey
			if c.engine == "" {
				w.Obs.Refused[plan.PipelinePushes] = plan.Refusal{Reason: "protected", Until: w.Now.Add(time.Hour)}
			}
			w.Commit("bob", "cut", Release("1.1.0"))
			if c.actions == "" {
				w.WantBlocked("staging", "push", "does not list this engine's key, "+engineKey)
			}
			w.WantActions(c.actions)
		})
	}
}
