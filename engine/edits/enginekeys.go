package edits

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels"
)

const pipelineFile = "sluice.yaml"

// EngineKeys changes which keys count as the engine's (R46). A key that counts so far has to sign it.
type EngineKeys struct {
	Add    []string // in authorized_keys form
	Remove []string
}

func (k EngineKeys) Message() (subject, body string) {
	var what []string
	if len(k.Add) > 0 {
		what = append(what, "list")
	}
	if len(k.Remove) > 0 {
		what = append(what, "remove")
	}
	return strings.Join(what, " and ") + " engine keys", ""
}

// Edit writes the list into sluice.yaml.
func (k EngineKeys) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	authority := s.Desired.Authority
	if authority.Enforced() && (by.Key == nil || !authority.MayList(authorizedKey(by.Key), channels.EngineKeys{})) {
		return Edit{}, Fail(errors.New("only a key that engine.keys of sluice.yaml lists, or an owner's, may change the list"),
			"sign with one of them: --signing-key, or the --data of the engine")
	}
	added, err := parseKeys(k.Add)
	if err != nil {
		return Edit{}, err
	}
	removed, err := parseKeys(k.Remove)
	if err != nil {
		return Edit{}, err
	}
	keys := slices.Clone(authority.Keys)
	for _, key := range added {
		if !slices.Contains(keys, key) {
			keys = slices.Insert(keys, 0, key)
		}
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return slices.Contains(removed, key) })
	if len(keys) == 0 {
		return Edit{}, Fail(errors.New("that would leave no key"),
			"write engine: unsigned into sluice.yaml by hand if the repository shall do without, and sign that commit with a listed key")
	}
	if slices.Equal(keys, authority.Keys) && authority.Ignored == "" {
		return Edit{}, nil
	}
	text, err := fs.ReadFile(s.Files, pipelineFile)
	if err != nil {
		return Edit{}, fmt.Errorf("read %s: %w", pipelineFile, err)
	}
	if text, err = channels.SetEngineKeys(text, keys); err != nil {
		return Edit{}, Fail(err, "write it by hand: engine: {keys: [%q]}",
			strings.Join(keys, `", "`))
	}
	return Edit{Files: singleFile(pipelineFile, text)}, nil
}

func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// parseKeys reads keys as a person names them.
func parseKeys(texts []string) (keys []string, err error) {
	for _, text := range texts {
		key, err := channels.ParseKey(text)
		if err != nil {
			return nil, Fail(err, "write it as ssh-ed25519 AAAA…, the line of a .pub file")
		}
		keys = append(keys, key)
	}
	return keys, nil
}
