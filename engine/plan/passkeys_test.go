package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/channels/passkey"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/proof"
)

const passkeyOrigin = "https://sluice.example:7600"

// passkeyYAML returns a passkey as sluice.yaml lists it.
func passkeyYAML(t *testing.T, a *Authenticator) string {
	t.Helper()
	k := a.Key(t)
	return fmt.Sprintf("{id: %s, publicKey: %s, origin: '%s'}", k.ID, k.PublicKey, k.Origin)
}

// approvalBy returns an approval's file.
func approvalBy(t *testing.T, a *Authenticator, s passkey.Statement) string {
	t.Helper()
	p := a.Sign(t, s.Challenge(), s.Nonce)
	return fmt.Sprintf("digest: %s\npasskey:\n  id: %s\n  nonce: %q\n  clientDataJSON: %s\n  authenticatorData: %s\n  signature: %s\n",
		s.Digest, p.ID, p.Nonce, p.ClientData, p.AuthenticatorData, p.Signature)
}

// An approval with a passkey counts whoever commits it; for its bytes, channel, release and person, and once.
func TestPasskeyApprovals(t *testing.T) {
	adas, bobs := NewAuthenticator(t, "ada", passkeyOrigin), NewAuthenticator(t, "bob", passkeyOrigin)
	people := pipeline("people:\n  ada: {email: ada@example.com, passkeys: [" + passkeyYAML(t, adas) + "]}\n" +
		"  bob: {email: bob@example.com, passkeys: [" + passkeyYAML(t, bobs) + "]}\ntrustAuthors: true\n")
	w := One(t, "gates: [{approval: {count: 1}}]\n", people)
	w.Commit("carl", "cut", Release("1.1.0"))
	const file = "channels/staging/approvals/1.1.0/ada.yaml"
	statement := passkey.Statement{Channel: "staging", Version: "1.1.0",
		Digest: string(w.Desired().Releases["1.1.0"].Digest), Nonce: "n1"}
	other := func(change func(*passkey.Statement)) passkey.Statement {
		s := statement
		change(&s)
		return s
	}
	why := func() (all string) {
		for _, f := range w.Desired().Faults {
			if f.File == file {
				all += f.Message
			}
		}
		return all
	}
	refused := func(name, text, want string) {
		t.Helper()
		w.Commit("ada", name, map[string]string{file: text}) // her address, which trustAuthors would believe
		w.WantBlocked("staging", "approval", "0 of 1")
		if !strings.Contains(why(), want) {
			t.Errorf("%s: %q, want %q", name, why(), want)
		}
		if c := claimOf(w, file); c.Stands || !strings.Contains(c.Why, want) {
			t.Errorf("%s: sluice verify says %+v", name, c)
		}
	}
	refused("another's passkey", approvalBy(t, bobs, statement), "does not list for ada")
	refused("another channel", approvalBy(t, adas, other(func(s *passkey.Statement) { s.Channel = "dedicated" })),
		"approves something else")
	refused("another version", approvalBy(t, adas, other(func(s *passkey.Statement) { s.Version = "1.0.0" })),
		"approves something else")
	refused("another digest", strings.Replace(approvalBy(t, adas, other(func(s *passkey.Statement) {
		s.Digest = "sha256:" + strings.Repeat("0", 64)
	})), "sha256:"+strings.Repeat("0", 64), statement.Digest, 1), "approves something else")
	unlisted := NewAuthenticator(t, "new", passkeyOrigin)
	w.Commit("eve", "a passkey and its use at once", Union(pipeline("people:\n  ada: {email: ada@example.com, passkeys: ["+
		passkeyYAML(t, unlisted)+"]}\n"), map[string]string{file: approvalBy(t, unlisted, statement)}))
	w.WantBlocked("staging", "approval", "0 of 1")
	w.Commit("eve", "back", people)

	withdrawn := approvalBy(t, adas, statement)
	w.Commit("somebody", "bring ada's approval", map[string]string{file: withdrawn})
	if got := w.Desired().Channels["staging"].Approved; len(got) != 1 || got[0].Person != "ada" {
		t.Fatalf("approved by %v: %s", got, why())
	}
	if c := claimOf(w, file); !c.Stands || c.By != "ada, passkey "+adas.Key(t).ID || c.Commit != w.Tip {
		t.Errorf("sluice verify says %+v", c)
	}
	w.Commit("ada", "withdraw it", map[string]string{file: ""})
	w.WantBlocked("staging", "approval", "0 of 1")
	refused("bring the withdrawn one back", withdrawn, "used before")
	refused("with the same signature in another file's text", withdrawn+"comment: x\n", "used before")
	adas.Counter -= 2
	refused("by a copy of the authenticator", approvalBy(t, adas, other(func(s *passkey.Statement) { s.Nonce = "n2" })),
		"counter is")
	adas.Counter += 2
	w.Commit("somebody", "approve again", map[string]string{
		file: approvalBy(t, adas, other(func(s *passkey.Statement) { s.Nonce = "n3" }))})
	w.WantActions("promote 1.1.0 staging")
}

// claimOf returns what sluice verify says of a file.
func claimOf(w *World, file string) proof.Claim {
	for _, c := range proof.Of(w.Desired(), w.Changes).Claims {
		if c.File == file {
			return c
		}
	}
	return proof.Claim{}
}
