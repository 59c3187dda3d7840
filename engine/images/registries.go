package images

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sluice-cd/sluice/engine/images/ecr"
)

const (
	maxRegistries = 1 << 20 // bytes of the file
	rereadAfter   = 5 * time.Second
	helperRunes   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)

// Registries says from where content may come, and with which credentials. It is read from a file in the format of
// Docker's config.json: registries are what auths and credHelpers name, and a field sluice lists the other hosts to
// which a registry may lead, such as those of its tokens and its storage:
//
//	{"auths": {"registry.example": {"auth": "…"}, "docker.io": {}},
//	 "sluice": {"hosts": {"docker.io": ["auth.docker.io", "*.r2.cloudflarestorage.com"]}}}
//
// The file is read again when it changes. If it can't be read then, the last content stays in force.
type Registries struct {
	file string

	mu      sync.Mutex
	looked  time.Time
	seen    os.FileInfo
	current *registries
	fault   error // of the newest content; nil: it is in force
}

// registries is the content of the file.
type registries struct {
	docker *configfile.ConfigFile
	hosts  map[string][]string // by registry: it and where it may lead
}

// OpenRegistries reads a file.
func OpenRegistries(file string) (*Registries, error) {
	r := &Registries{file: file}
	if _, err := r.get(); err != nil {
		return nil, err
	}
	return r, r.fault
}

// get returns the content in force.
func (r *Registries) get() (*registries, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.current != nil && now.Sub(r.looked) < rereadAfter {
		return r.current, nil
	}
	r.looked = now
	info, err := os.Stat(r.file)
	if err == nil && r.seen != nil && info.ModTime().Equal(r.seen.ModTime()) && info.Size() == r.seen.Size() {
		r.fault = nil // the content in force is back
		return r.current, nil
	}
	next, err := readRegistries(r.file)
	r.fault = err
	if err != nil && r.current == nil {
		return nil, err
	}
	if err == nil {
		r.current, r.seen = next, info
	}
	return r.current, nil
}

// Fault returns what is wrong with the newest content of the file; nil: nothing, it is in force.
func (r *Registries) Fault() error {
	_, _ = r.get() // its error is the fault
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault
}

func readRegistries(file string) (*registries, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read the registries: %w", err)
	}
	if info.Size() > maxRegistries {
		return nil, fmt.Errorf("read the registries: %s has more than %d bytes", file, maxRegistries)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the registries: %w", err)
	}
	var ours struct {
		Auths       map[string]json.RawMessage `json:"auths"`
		CredHelpers map[string]string          `json:"credHelpers"`
		Sluice      struct {
			Hosts map[string][]string `json:"hosts"`
		} `json:"sluice"`
	}
	// Errors of a decoder might show a password.
	if json.Unmarshal(text, &ours) != nil {
		return nil, fmt.Errorf("read the registries: %s is not a Docker config.json", file)
	}
	docker, err := config.LoadFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the registries: %s is not a Docker config.json", file)
	}
	all := &registries{docker: docker, hosts: map[string][]string{}}
	for name := range ours.Auths {
		all.hosts[registryOf(name)] = nil
	}
	helpers := []string{docker.CredentialsStore}
	for name, helper := range ours.CredHelpers {
		all.hosts[registryOf(name)] = nil
		helpers = append(helpers, helper)
	}
	for _, helper := range helpers {
		if strings.ContainsFunc(helper, func(c rune) bool { return !strings.ContainsRune(helperRunes, c) }) {
			return nil, fmt.Errorf("read the registries: %s: %.80q is not the name of a credential helper, such as "+
				"ecr-login for the program docker-credential-ecr-login", file, helper)
		}
	}
	for name, hosts := range ours.Sluice.Hosts {
		name = registryOf(name)
		if _, listed := all.hosts[name]; !listed {
			return nil, fmt.Errorf("read the registries: %s lists hosts of %.80q, which is not in auths or credHelpers",
				file, name)
		}
		for _, h := range hosts {
			if rest := strings.TrimPrefix(h, "*."); rest == "" || strings.ContainsAny(rest, "*/ ") {
				return nil, fmt.Errorf("read the registries: %s: %.80q is neither a host nor *. and a domain", file, h)
			}
		}
		all.hosts[name] = append(all.hosts[name], hosts...)
	}
	for name := range all.hosts {
		all.hosts[name] = append(all.hosts[name], endpointOf(name))
		if r, ok := ecr.ParseHost(name); ok {
			all.hosts[name] = append(all.hosts[name], r.Storage())
		}
	}
	return all, nil
}

// registryOf returns the registry of a key of auths, which may be a URL.
func registryOf(key string) string {
	for _, scheme := range []string{"https://", "http://"} {
		key = strings.TrimPrefix(key, scheme)
	}
	key, _, _ = strings.Cut(key, "/")
	return CanonicalRegistry(key)
}

// endpointOf returns the host at which a registry answers.
func endpointOf(registry string) string {
	if registry == dockerHub {
		return "index.docker.io"
	}
	return registry
}

// lists reports whether content may come from a registry.
func (r *registries) lists(registry string) bool {
	_, ok := r.hosts[registry]
	return ok
}

// allows reports whether a registry may lead to a host.
func (r *registries) allows(registry, host string) bool {
	return slices.ContainsFunc(r.hosts[registry], func(listed string) bool {
		if suffix, ok := strings.CutPrefix(listed, "*"); ok {
			return strings.HasSuffix(host, suffix)
		}
		return host == listed
	})
}

// helperOf returns the credential helper for a registry, and what it is asked for; empty: there is none.
func (r *registries) helperOf(registry string) (helper, key string) {
	for key, helper := range r.docker.CredentialHelpers {
		if registryOf(key) == registry {
			return helper, key
		}
	}
	key = registry
	if registry == dockerHub {
		key = authn.DefaultAuthKey
	}
	return r.docker.CredentialsStore, key
}

// entry returns what the file itself says of a registry; empty: to sign in with nothing.
func (r *registries) entry(registry string) (*authn.AuthConfig, error) {
	found, err := r.docker.GetAuthConfig(registry)
	if err != nil {
		return nil, fmt.Errorf("the list of registries can't be read for %s", registry)
	}
	return &authn.AuthConfig{Username: found.Username, Password: found.Password, Auth: found.Auth,
		IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken}, nil
}

// isLoopback reports whether a host, with or without a port, is this machine: only there plain HTTP is spoken.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}
