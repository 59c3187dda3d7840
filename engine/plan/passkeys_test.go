package plan_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/channels/passkey"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/proof"
)

// authenticator makes assertions, as a security key and a browser do together.
type authenticator struct {
	key     *ecdsa.PrivateKey
	id      string
	counter uint32
}

const passkeyOrigin = "https://sluice.example:7600"

func newAuthenticator(t *testing.T, id string) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{key: key, id: base64.RawURLEncoding.EncodeToString([]byte(id))}
}

// listed returns the passkey as sluice.yaml lists it.
func (a *authenticator) listed(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{id: %s, publicKey: %s, origin: '%s'}", a.id, base64.StdEncoding.EncodeToString(der),
		passkeyOrigin)
}

// approve returns an approval's file.
func (a *authenticator) approve(t *testing.T, s passkey.Statement) string {
	t.Helper()
	a.counter++
	client, err := json.Marshal(map[string]any{"type": "webauthn.get", "origin": passkeyOrigin,
		"challenge": base64.RawURLEncoding.EncodeToString(s.Challenge())})
	if err != nil {
		t.Fatal(err)
	}
	rp, hash := sha256.Sum256([]byte("sluice.example")), sha256.Sum256(client)
	data := binary.BigEndian.AppendUint32(append(rp[:], 0x05), a.counter)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf("digest: %s\npasskey:\n  id: %s\n  nonce: %q\n  clientDataJSON: %s\n  authenticatorData: %s\n  signature: %s\n",
		s.Digest, a.id, s.Nonce, encode(client), encode(data), encode(signature))
}

// An approval with a passkey counts whoever commits it; for its bytes, channel, release and person, and once.
func TestPasskeyApprovals(t *testing.T) {
	adas, bobs := newAuthenticator(t, "ada"), newAuthenticator(t, "bob")
	listed := pipeline("people:\n  ada: {email: ada@example.com, passkeys: [" + adas.listed(t) + "]}\n" +
		"  bob: {email: bob@example.com, passkeys: [" + bobs.listed(t) + "]}\ntrustAuthors: true\n")
	w := One(t, "gates: [{approval: {count: 1}}]\n", listed)
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
	refused("another's passkey", bobs.approve(t, statement), "does not list for ada")
	refused("another channel", adas.approve(t, other(func(s *passkey.Statement) { s.Channel = "dedicated" })),
		"approves something else")
	refused("another version", adas.approve(t, other(func(s *passkey.Statement) { s.Version = "1.0.0" })),
		"approves something else")
	refused("another digest", strings.Replace(adas.approve(t, other(func(s *passkey.Statement) {
		s.Digest = "sha256:" + strings.Repeat("0", 64)
	})), "sha256:"+strings.Repeat("0", 64), statement.Digest, 1), "approves something else")
	unlisted := newAuthenticator(t, "new")
	w.Commit("eve", "a passkey and its use at once", Union(pipeline("people:\n  ada: {email: ada@example.com, passkeys: ["+
		unlisted.listed(t)+"]}\n"), map[string]string{file: unlisted.approve(t, statement)}))
	w.WantBlocked("staging", "approval", "0 of 1")
	w.Commit("eve", "back", listed)

	withdrawn := adas.approve(t, statement)
	w.Commit("somebody", "bring ada's approval", map[string]string{file: withdrawn})
	if got := w.Desired().Channels["staging"].Approved; len(got) != 1 || got[0].Person != "ada" {
		t.Fatalf("approved by %v: %s", got, why())
	}
	if c := claimOf(w, file); !c.Stands || c.By != "ada, passkey "+adas.id || c.Commit != w.Tip {
		t.Errorf("sluice verify says %+v", c)
	}
	w.Commit("ada", "withdraw it", map[string]string{file: ""})
	w.WantBlocked("staging", "approval", "0 of 1")
	refused("bring the withdrawn one back", withdrawn, "used before")
	refused("with the same signature in another file's text", withdrawn+"comment: x\n", "used before")
	adas.counter -= 2
	refused("by a copy of the authenticator", adas.approve(t, other(func(s *passkey.Statement) { s.Nonce = "n2" })),
		"counter is")
	adas.counter += 2
	w.Commit("somebody", "approve again", map[string]string{
		file: adas.approve(t, other(func(s *passkey.Statement) { s.Nonce = "n3" }))})
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
