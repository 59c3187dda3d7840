package repository_test

import (
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// A password in a URL is a secret in git; other URL faults are wrong values. A key of two people is a duplicate.
func TestCodesOfSettings(t *testing.T) {
	const key = `"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG/IvJAu8LPJhX0OlSHfgPWKQhCXLtftJpTNrYLUG3Xc"`
	for text, want := range map[string]manifest.FaultCode{
		"link: https://a:b@flags.example/\n":                                    manifest.Secret,
		"link: http://flags.example/\n":                                         manifest.WrongValue,
		"webhooks: [{name: chat, url: https://a@chat.example/}]\n":              manifest.Secret,
		"people:\n  ada: {keys: [" + key + "]}\n  bob: {keys: [" + key + "]}\n": manifest.Duplicate,
		"people:\n  ada: {keys: [nonsense]}\n":                                  manifest.WrongValue,
	} {
		found := false
		in := fstest.MapFS{"sluice.yaml": {Data: []byte("apiVersion: sluice/v1\nkind: Flags\n" + text)}}
		tree := repository.Load(nil, in)
		for _, f := range tree.Faults {
			found = found || f.Code == want
		}
		if !found {
			t.Errorf("%s%v, none of them %s", text, tree.Faults, want)
		}
	}
}
