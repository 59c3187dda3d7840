package edits

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
)

// AddPasskey lists a passkey for a person in sluice.yaml. Where owners guard that file, one of them signs the commit.
type AddPasskey struct {
	As  string // a person of sluice.yaml; empty: the person with the committer's address
	Key passkey.Key
}

func (a AddPasskey) Message() (subject, body string) {
	return "add a passkey for approvals", "for " + a.Key.Origin
}

// Edit adds the passkey, and refuses one that is another person's.
func (a AddPasskey) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	person, err := s.People().FindApprover(a.As, by)
	if err != nil {
		return Edit{}, err
	}
	if err := a.Key.Validate(); err != nil {
		return Edit{}, Fail(err, "take the values that the browser returned, or open the console's page Add a passkey")
	}
	for _, name := range sortedKeys(s.People()) {
		m := s.People()[name]
		if m == nil {
			continue
		}
		for _, k := range m.Passkeys {
			switch {
			case !k.Same(a.Key):
			case name == person && k.Origin == a.Key.Origin:
				return Edit{Summary: person + " has this passkey already"}, nil
			default:
				return Edit{}, Fail(fmt.Errorf("%s has this passkey already, for %s: a passkey is one person's, at one "+
					"address", name, k.Origin), "make another passkey")
			}
		}
	}
	text, err := fs.ReadFile(s.Files, pipelineFile)
	if err != nil {
		return Edit{}, fmt.Errorf("read %s: %w", pipelineFile, err)
	}
	if text, err = channels.AddPasskey(text, person, a.Key); err != nil {
		return Edit{}, Fail(err, "write it under people.%s.passkeys by hand: id: %s, publicKey: %s, origin: %s", person,
			a.Key.ID, a.Key.PublicKey, a.Key.Origin)
	}
	return Edit{Files: singleFile(pipelineFile, text), Summary: "add a passkey of " + person,
		Next: "approvals at " + a.Key.Origin + " may be signed with it from the next commit on"}, nil
}

// MaxAssertion bounds the text that ParseAssertion reads, in bytes.
const MaxAssertion = 64 << 10

// ParseAssertion reads what a browser made of a challenge: {"nonce": NONCE, "credential": CREDENTIAL}, where CREDENTIAL
// is what the credential's toJSON() returns.
func ParseAssertion(text []byte) (*passkey.Assertion, error) {
	var said struct {
		Nonce      string `json:"nonce"`
		Credential struct {
			ID       string `json:"id"`
			Response struct {
				ClientData        string `json:"clientDataJSON"`
				AuthenticatorData string `json:"authenticatorData"`
				Signature         string `json:"signature"`
			} `json:"response"`
		} `json:"credential"`
	}
	if len(text) > MaxAssertion {
		return nil, fmt.Errorf("an assertion has at most %d bytes", MaxAssertion)
	}
	err := json.Unmarshal(text, &said)
	if c := said.Credential; err != nil || c.ID == "" || c.Response.Signature == "" {
		return nil, errors.New(`it is not {"nonce": NONCE, "credential": CREDENTIAL}, where CREDENTIAL is what toJSON() ` +
			`returned in the browser`)
	}
	c := said.Credential
	return &passkey.Assertion{ID: c.ID, Nonce: said.Nonce, ClientData: c.Response.ClientData,
		AuthenticatorData: c.Response.AuthenticatorData, Signature: c.Response.Signature}, nil
}
