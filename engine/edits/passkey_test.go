package edits_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// An approval with a passkey needs no key to sign with, and one whose assertion is not good is not committed.
func TestApproveWithAPasskey(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../channels/passkey/testdata/assertions.json")
	var table struct {
		Statement struct{ Channel, Version, Digest, Nonce string }
		Table     []struct {
			Name      string
			Key       passkey.Key
			Assertion passkey.Assertion
			Verified  bool
		}
	}
	if err == nil {
		err = json.Unmarshal(data, &table)
	}
	version, parseErr := releases.ParseVersion(table.Statement.Version)
	if err != nil || parseErr != nil {
		t.Fatal(err, parseErr)
	}
	unsigned := edits.Person{Person: ada.Person}
	for _, c := range table.Table {
		s := inMemory()
		r := &plan.Release{Loaded: true}
		r.Version, r.Digest = version, releases.Digest(table.Statement.Digest)
		s.Desired.Releases[table.Statement.Version] = r
		s.Desired.Pipeline.People["ada"].Passkeys = []passkey.Key{c.Key}
		approve := edits.Approve{Channel: table.Statement.Channel, Release: table.Statement.Version,
			Passkey: &c.Assertion}
		e, err := approve.Edit(s, unsigned, noon)
		if c.Verified != (err == nil) {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		const file = "channels/dedicated/approvals/2026.11.3/ada.yaml"
		if c.Verified {
			kept := channels.ParseApproval(nil, files(map[string]string{file: string(e.Files[file])}), file)
			if kept == nil || kept.Passkey == nil || *kept.Passkey != c.Assertion || kept.Digest != r.Digest {
				t.Errorf("%s: committed %s", c.Name, e.Files[file])
			}
		}
		asked, err := approve.Challenge(s, unsigned, table.Statement.Nonce, "")
		client, _ := base64.RawURLEncoding.DecodeString(table.Table[0].Assertion.ClientData)
		if err != nil || asked.RPID != "sluice.example" || asked.Credentials[0] != c.Key.ID ||
			!strings.Contains(string(client), `"`+asked.Challenge+`"`) {
			t.Errorf("the challenge is %+v (%v)", asked, err)
		}
	}
	s := inMemory()
	if _, err := (edits.Approve{Channel: "dedicated", Release: "1.1.0"}).Challenge(s, unsigned, "n", ""); err == nil ||
		!strings.Contains(err.Error(), "no passkey for ada") {
		t.Error(err)
	}
	other := edits.Approve{Channel: "dedicated", Release: "1.1.0", Passkey: &table.Table[0].Assertion}
	s.Desired.Pipeline.People["ada"].Passkeys = []passkey.Key{table.Table[0].Key}
	if _, err := other.Edit(s, unsigned, noon); err == nil || !strings.Contains(err.Error(),
		"approves something else") {
		t.Errorf("of another release: %v", err)
	}
}

// A passkey is added to its person in sluice.yaml, and everything else in the file stays as it is.
func TestAddPasskey(t *testing.T) {
	t.Parallel()
	adas, other := enginetest.NewAuthenticator(t, "a+/", "https://sluice.example").Key(t),
		enginetest.NewAuthenticator(t, "other", "https://sluice.example:7600").Key(t)
	own := func(k passkey.Key) string {
		return `{"id":"` + k.ID + `","publicKey":"` + k.PublicKey + `","origin":"` + k.Origin + `"}`
	}
	block := func(k passkey.Key) string {
		return "- id: " + k.ID + "\n        publicKey: " + k.PublicKey + "\n        origin: " + k.Origin + "\n"
	}
	const head = "apiVersion: sluice/v1\nkind: Pipeline\n# who\npeople:\n"
	for name, c := range map[string]struct{ text, want string }{
		"the first": {head + "  ada: # Ada\n    email: ada@example.com # work\n  grace: {email: grace@example.com}\n",
			head + "  ada: # Ada\n    email: ada@example.com # work\n    passkeys:\n      " + block(adas) +
				"  grace: {email: grace@example.com}\n"},
		"one more": {head + "  ada:\n    passkeys:\n      # the blue key\n      " + block(other) +
			"    email: ada@example.com\n", head + "  ada:\n    passkeys:\n      # the blue key\n      " + block(other) +
			"      - " + own(adas) + "\n    email: ada@example.com\n"},
		"one more in brackets": {head + "  ada: {email: ada@example.com, passkeys: [" + own(other) + "]} # Ada\n",
			head + "  ada: {email: ada@example.com, passkeys: [" + own(adas) + ", " + own(other) + "]} # Ada\n"},
		"of who has the same list as another": {head + "  grace:\n    passkeys:\n      " + block(other) + "  ada:\n" +
			"    email: ada@example.com\n", head + "  grace:\n    passkeys:\n      " + block(other) + "  ada:\n" +
			"    email: ada@example.com\n    passkeys:\n      " + block(adas)},
	} {
		s := inMemory()
		s.Files = files(map[string]string{"sluice.yaml": c.text})
		e, err := edits.AddPasskey{Key: adas}.Edit(s, edits.Person{Person: ada.Person}, noon)
		got := string(e.Files["sluice.yaml"])
		if name == "one more in brackets" { // in a list the order says nothing
			got = strings.Replace(got, own(other)+", "+own(adas), own(adas)+", "+own(other), 1)
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

// R52: a passkey is one person's, is one that approvals can be verified by, and owners sign what they guard.
func TestR52PasskeysThatAreNotAdded(t *testing.T) {
	t.Parallel()
	good := enginetest.NewAuthenticator(t, "a", "https://sluice.example").Key(t)
	with := func(change func(k *passkey.Key)) passkey.Key {
		k := good
		change(&k)
		return k
	}
	for name, c := range map[string]struct {
		graces, adas []passkey.Key
		add          edits.AddPasskey
		owners       []string
		want         string
	}{
		"hers already": {adas: []passkey.Key{good}, add: edits.AddPasskey{Key: good}, want: "ada has this passkey already"},
		"another's":    {graces: []passkey.Key{good}, add: edits.AddPasskey{Key: good}, want: "grace has this passkey already"},
		"another's key under another id": {graces: []passkey.Key{good}, want: "grace has this passkey already",
			add: edits.AddPasskey{Key: with(func(k *passkey.Key) { k.ID = "b" + k.ID })}},
		"hers at another address": {adas: []passkey.Key{good}, want: "at one address",
			add: edits.AddPasskey{Key: with(func(k *passkey.Key) { k.Origin = "https://other.example" })}},
		"no id":    {add: edits.AddPasskey{Key: with(func(k *passkey.Key) { k.ID = "" })}, want: "id is no base64url"},
		"no key":   {add: edits.AddPasskey{Key: with(func(k *passkey.Key) { k.PublicKey = "AAAA" })}, want: "publicKey is no"},
		"no https": {add: edits.AddPasskey{Key: with(func(k *passkey.Key) { k.Origin = "http://a.example" })}, want: "is not https://"},
		"a path":   {add: edits.AddPasskey{Key: with(func(k *passkey.Key) { k.Origin += "/ui" })}, want: "without a path"},
		"nobody":   {add: edits.AddPasskey{Key: good, As: "eve"}, want: `no person "eve"`},
		"owners":   {add: edits.AddPasskey{Key: good}, owners: []string{"grace"}, want: "only owners change sluice.yaml"},
	} {
		s := inMemory()
		s.Files = files(map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\n" +
			"people:\n  ada:\n    email: ada@example.com\n"})
		s.Desired.Authority.Owners = c.owners
		s.Desired.Pipeline.People["grace"].Passkeys, s.Desired.Pipeline.People["ada"].Passkeys = c.graces, c.adas
		e, err := edits.Decide(edits.Decision[*edits.Releases](c.add), s, edits.Person{Person: ada.Person}, noon)
		if said := decided(e, err); !strings.Contains(said, c.want) || err == nil && len(e.Files) > 0 {
			t.Errorf("%s: %s", name, said)
		}
	}
}

// An assertion that the history shows to be used, or made by a copy, is refused before it is committed.
func TestR52UsedAssertionsAreNotCommitted(t *testing.T) {
	t.Parallel()
	adas := enginetest.NewAuthenticator(t, "a", "https://sluice.example")
	s := inMemory()
	s.Desired.Pipeline.People["ada"].Passkeys = []passkey.Key{adas.Key(t)}
	approve := edits.Approve{Channel: "dedicated", Release: "1.1.0"}
	unsigned := edits.Person{Person: ada.Person}
	sign := func(nonce string) *passkey.Assertion {
		t.Helper()
		c, err := approve.Challenge(s, unsigned, nonce, "https://sluice.example")
		if err != nil {
			t.Fatal(err)
		}
		challenge, err := base64.RawURLEncoding.DecodeString(c.Challenge)
		if err != nil || c.Digest != string(s.Desired.Releases["1.1.0"].Digest) {
			t.Fatalf("%+v %v", c, err)
		}
		a := adas.Sign(t, challenge, c.Nonce)
		return &a
	}
	approve.Passkey = sign("n1")
	if _, err := approve.Edit(s, unsigned, noon); err != nil {
		t.Fatal(err)
	}
	statement := passkey.Statement{Channel: "dedicated", Version: "1.1.0",
		Digest: string(s.Desired.Releases["1.1.0"].Digest), Nonce: "n1"}
	verified, err := adas.Key(t).Verify(*approve.Passkey, statement)
	if err == nil {
		err = s.Desired.Passkeys.Note(verified)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := approve.Edit(s, unsigned, noon); err == nil || !strings.Contains(err.Error(), "used before") {
		t.Errorf("again: %v", err)
	}
	adas.Counter = 0
	approve.Passkey = sign("n2")
	if _, err := approve.Edit(s, unsigned, noon); err == nil || !strings.Contains(err.Error(), "counter is 1 after 1") {
		t.Errorf("by a copy: %v", err)
	}
	if _, err := approve.Challenge(s, unsigned, "n1", "https://other.example"); err == nil ||
		!strings.Contains(err.Error(), "no passkey for ada at https://other.example") {
		t.Errorf("at another address: %v", err)
	}
}
