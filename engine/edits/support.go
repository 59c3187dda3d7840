package edits

import (
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
)

// NameSupport says whose keys release signers vouch for as those of people who may ask for debug access.
type NameSupport struct {
	Signer trust.Signer
	Add    []trust.SupportKey
	Remove []trust.SupportKey // without a key: all of the person's
}

func (n NameSupport) Message() (subject, body string) {
	var lines []string
	for _, k := range n.Add {
		lines = append(lines, "Support-Key-Added: "+k.Name+" "+k.Key)
	}
	for _, k := range n.Remove {
		lines = append(lines, strings.TrimSpace("Support-Key-Removed: "+k.Name+" "+k.Key))
	}
	return "name the support keys", strings.Join(lines, "\n")
}

// Edit changes the policy.
func (n NameSupport) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	d, err := s.draftTrust(now)
	if err != nil {
		return Edit{}, err
	}
	for _, k := range n.Remove {
		if err := d.RemoveSupport(k); err != nil {
			return Edit{}, Fail(err, "sluice trust status shows the support keys")
		}
	}
	if _, err := d.AddSupport(n.Add...); err != nil {
		return Edit{}, Fail(err, "sluice trust status shows the support keys")
	}
	return s.finishTrust(d, n.Signer)
}
