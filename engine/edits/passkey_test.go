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
		asked, err := approve.Challenge(s, unsigned, table.Statement.Nonce)
		client, _ := base64.RawURLEncoding.DecodeString(table.Table[0].Assertion.ClientData)
		if err != nil || asked.RPID != "sluice.example" || asked.Credentials[0] != c.Key.ID ||
			!strings.Contains(string(client), `"`+asked.Challenge+`"`) {
			t.Errorf("the challenge is %+v (%v)", asked, err)
		}
	}
	s := inMemory()
	if _, err := (edits.Approve{Channel: "dedicated", Release: "1.1.0"}).Challenge(s, unsigned, "n"); err == nil ||
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
