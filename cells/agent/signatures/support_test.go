package signatures

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
)

// D4, T1: who may ask for debug access is the signers' word, whoever has the engine's key; it needs no release that
// passed, and no list of releases that can be read.
func TestSupportIsTheSigners(t *testing.T) {
	r := honest(t)
	name := func(r *trusttest.Repository, who string) {
		r.Roles[trust.RoleTargets].Signed["x-sluice"] = trusttest.JSON{"support": []any{
			trusttest.JSON{"name": "mia", "key": trusttest.Public(who).Line()}}}
	}
	name(r, "mia")
	k := pinned(t, r)
	keys, err := k.Support(bundle(t, r), now)
	if err != nil || keys.Check("mia", trusttest.Public("mia").Line(), now) != nil {
		t.Fatal(keys, err)
	}
	evil := r.Clone()
	name(evil, "mallory")
	for by, signers := range map[string][]string{"the engine": {"engine"}, "one of two": {"ada", "mallory", "engine"}} {
		evil.Roles[trust.RoleTargets].By = signers
		evil.Roles[trust.RoleTargets].Signed["version"] = trusttest.FirstVersion + 1
		evil.Timestamp.Signed["version"], evil.Snapshot.Signed["version"] = trusttest.FirstVersion+1,
			trusttest.FirstVersion+1
		evil.Describe()
		if keys, err := pinned(t, r).Support(bundle(t, evil), now); err == nil {
			t.Errorf("%s named %v", by, keys)
		}
	}
	spoilt := bundle(t, r)
	spoilt.Roles[trust.RoleReleases] = []byte("{}")
	delete(spoilt.Roles, trust.ChannelRole(trusttest.Channel))
	if keys, err := k.Support(spoilt, now); err != nil || len(keys) != 1 {
		t.Error("a fault of the releases keeps people from asking", keys, err)
	}
	if _, err := k.Support(bundle(t, r), now.Add(1000*time.Hour)); err == nil {
		t.Error("expired files say who may ask")
	}
	other := open(t, Options{Dir: t.TempDir(), Root: releases.DigestBytes(nil)})
	if _, err := other.Support(bundle(t, r), now); err == nil {
		t.Error("another root says who may ask")
	}
	if err := k.Admit(head(), "", bundle(t, r), now); err != nil {
		t.Error("releases are not admitted afterwards", err)
	}
}
