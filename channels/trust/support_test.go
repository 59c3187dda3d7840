package trust_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
)

func supportKey(t *testing.T, name string) trust.SupportKey {
	t.Helper()
	k, err := trust.ParseSupportKey(name, trusttest.Public(name).Line()+" "+name+"@example.com\n")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *flagWorld) support(by []string, keys ...trust.SupportKey) {
	w.t.Helper()
	w.change(by, func(d *trust.Draft) error {
		_, err := d.AddSupport(keys...)
		return err
	})
}

// policy is what a cell knows of the policy, which it verifies without a word about releases.
func (w *flagWorld) policy(b trust.Bundle) (trust.Policy, error) {
	w.t.Helper()
	b.Roles = map[string][]byte{trust.RoleTargets: b.Roles[trust.RoleTargets]}
	again, _, err1 := new(trust.Verifier).VerifyPolicy(w.state, b, "dedicated", w.now)
	p, state, err := w.known.VerifyPolicy(w.state, b, "dedicated", w.now)
	if (err1 == nil) != (err == nil) || len(again.Support) != len(p.Support) {
		w.t.Fatalf("a Verifier that remembers says %v %v, and another one %v %v", p, err, again, err1)
	}
	w.state = state
	return p, err
}

// The policy names support keys once enough signers signed it, and until it names them no more. Whoever serves an older
// policy is found out.
func TestSupportKeys(t *testing.T) {
	w := newFlagWorld(t)
	if p, err := w.policy(w.serve()); err != nil || p.Support.Check("mia", supportKey(t, "mia").Key, w.now) == nil {
		t.Fatal("a key counts that nobody named", err)
	}
	w.support([]string{"ada"}, supportKey(t, "mia"))
	if p, err := w.policy(w.serve()); err != nil || len(p.Support) != 0 {
		t.Fatal("one signature of two suffices", p, err)
	}
	w.support([]string{"ada", "grace"}, supportKey(t, "mia"), supportKey(t, "noor"))
	named := w.serve()
	p, err := w.policy(named)
	if err != nil || p.Support.Check("mia", supportKey(t, "mia").Key, w.now) != nil {
		t.Fatal(p, err)
	}
	for name, key := range map[string]string{"noor": supportKey(t, "mia").Key, "mia": supportKey(t, "eve").Key} {
		if p.Support.Check(name, key, w.now) == nil {
			t.Errorf("%s may ask by a key that is not theirs", name)
		}
	}
	w.now = w.now.Add(time.Minute)
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error { return d.RemoveSupport(trust.SupportKey{Name: "mia"}) })
	if p, err = w.policy(w.serve()); err != nil || p.Support.Check("mia", supportKey(t, "mia").Key, w.now) == nil ||
		p.Support.Check("noor", supportKey(t, "noor").Key, w.now) != nil {
		t.Fatal(p, err)
	}
	if _, err := w.policy(named); err == nil {
		t.Error("an older policy was believed")
	}
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
	if p, err = w.policy(w.serve()); err != nil || len(p.Support) != 1 {
		t.Error("another year of signatures loses the support keys", p, err)
	}
	w.now = w.now.Add(400 * 24 * time.Hour)
	if _, err := w.policy(named); err == nil {
		t.Error("an expired policy says who may ask")
	}
}

func TestSupportKeysHaveTimes(t *testing.T) {
	w := newFlagWorld(t)
	k := supportKey(t, "mia")
	k.From, k.Until = w.now.Add(time.Hour), w.now.Add(2*time.Hour)
	w.support([]string{"ada", "grace"}, k)
	p, err := w.policy(w.serve())
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]bool{0: false, time.Hour: true, 2*time.Hour - time.Second: true,
		2 * time.Hour: false} {
		if is := p.Support.Check("mia", k.Key, w.now.Add(after)) == nil; is != want {
			t.Errorf("after %s: %v", after, is)
		}
	}
	k.From, k.Until = time.Time{}, time.Time{}
	w.support([]string{"ada", "grace"}, k)
	if p, err = w.policy(w.serve()); err != nil || len(p.Support) != 1 || p.Support.Check("mia", k.Key, w.now) != nil {
		t.Error("naming a key again does not change its times", p, err)
	}
}

// Keys that could be read in two ways, or that no session could begin with, are not named.
func TestSupportKeysAreStrict(t *testing.T) {
	w := newFlagWorld(t)
	line := trusttest.Public("mia").Line()
	for name, text := range map[string]string{"no key": "mia", "options": `command="sh" ` + line, "two": line + "\n" + line,
		"private": "-----BEGIN OPENSSH PRIVATE KEY-----"} {
		if _, err := trust.ParseSupportKey("mia", text); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
	key, err := ssh.NewPublicKey(trusttest.Public("mia").Public)
	if err != nil {
		t.Fatal(err)
	}
	good := supportKey(t, "mia")
	certificate := &ssh.Certificate{Key: key, Nonce: make([]byte, 32), SignatureKey: key,
		Signature: &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: make([]byte, 64)}}
	for name, k := range map[string]trust.SupportKey{
		"a certificate": {Name: "mia", Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(certificate)))},
		"a comment":     {Name: "mia", Key: good.Key + " mia"},
		"a newline":     {Name: "mia", Key: good.Key + "\n"},
		"no name":       {Key: good.Key},
		"a bad name":    {Name: "mia\x1b[2J", Key: good.Key},
		"no time left":  {Name: "mia", Key: good.Key, From: w.now.Add(time.Hour), Until: w.now},
	} {
		d, err := trust.NewDraft(w.ledger(), w.now)
		w.must(err)
		if _, err := d.AddSupport(k); err == nil {
			t.Errorf("%s: it was named", name)
		}
	}
	d, err := trust.NewDraft(w.ledger(), w.now)
	w.must(err)
	if err := d.RemoveSupport(trust.SupportKey{Name: "nobody"}); err == nil {
		t.Error("a key was removed that is not there")
	}
	if changes, err := d.AddSupport(); changes || err != nil {
		t.Error(changes, err)
	}
}
