package imagerelay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

// HostsMark is the first line of a file that this program wrote, and may write again.
const HostsMark = "# Written by sluice: what it pulls from this registry comes through the control plane."

var registryName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
})

// ValidRegistry reports whether a text is HOST or HOST:PORT.
func ValidRegistry(text string) bool { return registryName().MatchString(text) }

// WriteHosts tells a machine's containerd to pull from a relay at an address what names some registries: it writes a
// hosts.toml for each below dir, which is containerd's config_path, and which takes effect without a restart. A file of
// somebody else stays, and is an error.
func WriteHosts(dir string, registries []string, relay string) error {
	var faults []error
	for _, registry := range registries {
		if err := writeHosts(dir, registry, relay); err != nil {
			faults = append(faults, fmt.Errorf("tell containerd of %s: %w", registry, err))
		}
	}
	return errors.Join(faults...)
}

// HostsFile returns the text of a registry's hosts.toml.
func HostsFile(registry, relay string) string {
	server := registry
	if registry == "docker.io" { // Docker Hub's name is not its host
		server = "registry-1.docker.io"
	}
	return fmt.Sprintf("%s\nserver = %q\n\n[host.%q]\n  capabilities = [\"pull\"]\n", HostsMark, "https://"+server,
		"http://"+relay)
}

func writeHosts(dir, registry, relay string) error {
	if !ValidRegistry(registry) {
		return errors.New("it is not HOST or HOST:PORT")
	}
	text := []byte(HostsFile(registry, relay))
	file := filepath.Join(dir, registry, "hosts.toml")
	old, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(old, text):
		return nil
	case err == nil && !bytes.HasPrefix(old, []byte(HostsMark)):
		return fmt.Errorf("somebody else wrote %s: add [host.%q] to it, or remove it", file, "http://"+relay)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // containerd's, as the rest there
		return err
	}
	next := file + ".new"
	if err := os.WriteFile(next, text, 0o644); err != nil { //nolint:gosec // it has no secret
		return err
	}
	return os.Rename(next, file)
}
