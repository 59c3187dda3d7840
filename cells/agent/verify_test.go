package agent

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
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

// T1, T4: a control plane that was taken over, with the online keys, in front of a whole agent. Nothing that signers
// did not sign is even fetched; each refusal says why; what runs goes on, heals, and is gone back to.
func TestT4EvilControlPlane(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	r, err := trusttest.New(time.Now())
	must(t, err)
	good := signedRelease(t, p, "1.1.0", 1, agenttest.Release("1.1.0", nil))
	r.List("1.1.0", good.Digest, trusttest.Channel)
	r.Pick("1.1.0", good.Digest)
	first, err := r.Bundle()
	must(t, err)
	serveTrust(t, p, r)
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
	p := newControlPlane(t)
	r, err := trusttest.New(time.Now())
	must(t, err)
	good := signedRelease(t, p, "1.1.0", 1, agenttest.Release("1.1.0", nil))
	r.List("1.1.0", good.Digest, trusttest.Channel)
	r.Pick("1.1.0", good.Digest)
	old, err := r.Bundle()
	must(t, err)
	serveTrust(t, p, r)
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
