package channels

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/internal/manifest"
)

const pipelineFile = "sluice.yaml"

// personName matches the keys that people may have: they name the files of a person's approvals.
var personName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
})

// ParsePipeline reads sluice.yaml; nil if it is missing, or has faults that are not warnings.
func ParsePipeline(c *manifest.Cache, fsys fs.FS) (*Pipeline, []manifest.Fault) {
	return manifest.Load(c, fsys, pipelineFile, preparePipeline)
}

// loadPipeline reads sluice.yaml. With faults that are not warnings, the result has the defaults only.
func loadPipeline(c *manifest.Cache, fsys fs.FS) (Pipeline, []manifest.Fault) {
	p, faults := ParsePipeline(c, fsys)
	if p == nil {
		if len(faults) == 0 {
			faults = []manifest.Fault{{File: pipelineFile, Code: manifest.Missing,
				Message: "is missing: `sluice init` makes a release repository"}}
		}
		p = &Pipeline{}
		p.withDefaults()
	}
	return *p, faults
}

func (p *Pipeline) withDefaults() {
	setDefault(&p.StaleAfter, 5*time.Minute)
	setDefault(&p.Infrastructure.Deadline, 14*24*time.Hour)
}

func preparePipeline(doc *manifest.Doc[Pipeline]) (faults []manifest.Fault) {
	p := &doc.Value
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	faults = doc.RefuseEmpty()
	for i, f := range p.Freezes {
		if !f.From.Before(f.Until) {
			fault(manifest.Conflict,
				fmt.Sprintf("freezes[%d]", i), "a freeze must end after it begins: until is not after from")
		}
	}
	const day = 24 * time.Hour
	if d := p.Infrastructure.Deadline; doc.HasField("infrastructure.deadline") && (d < day || d > 365*day) {
		fault(manifest.WrongValue, "infrastructure.deadline", "%s is not between 1d and 365d", d)
	}
	emails, keys := map[string]string{}, map[string]string{} // owners by address and by key
	for _, name := range slices.Sorted(maps.Keys(p.People)) {
		at := "people[" + name + "]"
		m := p.People[name]
		if !personName().MatchString(name) {
			fault(manifest.WrongName, at,
				"%.70q can't name a person: use letters, digits, dots and hyphens, at most 63", name)
		}
		if m == nil { // RefuseEmpty says so
			continue
		}
		if email := strings.ToLower(m.Email); email != "" {
			if other, taken := emails[email]; taken {
				fault(manifest.Duplicate, at+".email",
					"%s has this e-mail address too: each person needs one of their own", other)
			}
			emails[email] = name
			if !strings.Contains(email, "@") || strings.ContainsAny(email, " <>\n") {
				fault(manifest.WrongValue, at+".email", "%.100q is not an e-mail address", m.Email)
			}
		}
		for i, key := range m.Keys {
			at := fmt.Sprintf("%s.keys[%d]", at, i)
			parsed, err := ParseKey(key)
			if err != nil {
				fault(manifest.WrongValue, at, "%v", err)
				continue
			}
			if other, taken := keys[parsed]; taken {
				fault(manifest.Duplicate, at, "%s has this key already: a key is one person's", other)
			}
			keys[parsed] = name
		}
	}
	faults = append(faults, checkPasskeys(doc, p.People)...)
	for i, name := range p.Owners {
		at := fmt.Sprintf("owners[%d]", i)
		switch m := p.People[name]; {
		case slices.Contains(p.Owners[:i], name):
			fault(manifest.Duplicate, at, "%s is there twice", name)
		case m == nil:
			fault(manifest.UnknownReference, at, "%.70q is not in people", name)
		case len(m.Keys) == 0:
			fault(manifest.Missing, at, "%s has no key, and owners sign their changes: add one to people.%s.keys", name, name)
		}
	}
	faults = append(faults, checkAccess(doc, p.Access)...)
	faults = append(faults, p.Engine.normaliseKeys(doc)...)
	p.withDefaults()
	return faults
}

// checkPasskeys returns the faults of people's passkeys. A passkey is one person's.
func checkPasskeys(doc *manifest.Doc[Pipeline], people map[string]*Member) (faults []manifest.Fault) {
	type owned struct {
		passkey.Key
		by string
	}
	var all []owned
	for _, name := range slices.Sorted(maps.Keys(people)) {
		if people[name] == nil {
			continue
		}
		for i, k := range people[name].Passkeys {
			at := fmt.Sprintf("people[%s].passkeys[%d]", name, i)
			if err := k.Validate(); err != nil {
				faults = append(faults, doc.Fault(manifest.WrongValue, at, "%v", err))
				continue
			}
			if j := slices.IndexFunc(all, func(other owned) bool { return other.Same(k) }); j >= 0 {
				faults = append(faults, doc.Fault(manifest.Duplicate, at,
					"%s has this passkey already: a passkey is one person's", all[j].by))
			}
			all = append(all, owned{k, name})
		}
	}
	return faults
}

// ParseKey converts an SSH public key from authorized_keys form to the form of Change.Key.
func ParseKey(text string) (string, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return "", fmt.Errorf("%.60q is not an SSH public key, such as ssh-ed25519 AAAA…", text)
	case len(options) > 0 || len(strings.TrimSpace(string(rest))) > 0:
		return "", fmt.Errorf("%.60q is more than one SSH public key without options", text)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}
