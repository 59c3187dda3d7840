package debugcmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The file of host keys is this verb's own: another one, such as ~/.ssh/known_hosts, stays as it is.
func TestKnownHostsOfOthersStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own, others := filepath.Join(dir, "cell-acme"), filepath.Join(dir, "known_hosts")
	for _, line := range []string{"acme ssh-ed25519 AAAA1", "acme ssh-ed25519 AAAA2"} {
		if err := writeKnownHosts(own, line); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(own); err != nil || string(text) != knownHostsHead+line+"\n" {
			t.Errorf("%q %v", text, err)
		}
	}
	const mine = "github.com ssh-ed25519 AAAA\nacme ssh-rsa AAAA\n"
	if err := os.WriteFile(others, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	err := writeKnownHosts(others, "acme ssh-ed25519 AAAA1")
	if err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Error(err)
	}
	if text, err := os.ReadFile(others); err != nil || string(text) != mine {
		t.Errorf("%q %v", text, err)
	}
}
