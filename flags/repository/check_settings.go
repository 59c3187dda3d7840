package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/window"
)

// defaultSoak is Settings.Soak unless sluice.yaml gives one.
const defaultSoak = Duration(time.Hour)

// EventTypes returns the event types that webhooks can subscribe to.
func EventTypes() []string {
	return []string{"published", "suspended", "resumed", "killed", "lifted", "retracted", "missed", "warning"}
}

// loadSettings reads sluice.yaml. Without the file, or with faults in it, the defaults hold.
func (l *loader) loadSettings() {
	s, faults := manifest.Load(l.cache, l.fsys, settingsFile, validateSettings)
	l.faults = append(l.faults, faults...)
	l.peopleUnknown = s == nil && len(faults) > 0
	if s == nil {
		if len(faults) == 0 {
			l.addWarning(manifest.Missing, settingsFile, 0,
				"is missing: the defaults apply, and nobody can approve; list approvers in people")
		}
		s = &Settings{Soak: defaultSoak, Approvals: ApprovalRule{Count: 1}}
	}
	l.tree.Settings = *s
}

// LoadSettings returns sluice.yaml of a flags repository; nil: it is missing, or has faults.
func LoadSettings(c *manifest.Cache, files fs.FS) *Settings {
	s, _ := manifest.Load(c, files, settingsFile, validateSettings)
	return s
}

func validateSettings(doc *manifest.Doc[Settings]) []manifest.Fault {
	s := &doc.Value
	setDefaultCount(doc, "approvals.count", &s.Approvals)
	if !doc.HasField("soak") {
		s.Soak = defaultSoak
	}
	faults := slices.Concat(checkPeople(doc), checkOwners(doc), checkWebhooks(doc))
	if _, err := window.LoadZone(s.Zone); err != nil {
		faults = append(faults, doc.Fault(manifest.WrongValue, "zone", "%v", err))
	}
	if err := CheckURL(s.Link); s.Link != "" && err != nil {
		faults = append(faults, doc.Fault(URLFaultCode(err), "link", "link %v", err))
	}
	if f := s.checkRule(s.Approvals, settingsFile, doc.Line("approvals")); f != nil {
		faults = append(faults, *f)
	}
	return refuseEmpty(doc, faults)
}

// refuseEmpty adds the faults of RefuseEmpty to those lines that have no fault yet.
func refuseEmpty[T any](doc *manifest.Doc[T], faults []manifest.Fault) []manifest.Fault {
	for _, f := range doc.RefuseEmpty() {
		if !slices.ContainsFunc(faults, func(known manifest.Fault) bool {
			return known.Line == f.Line && !known.Warning
		}) {
			faults = append(faults, f)
		}
	}
	return faults
}

// setDefaultCount fills in the default of one approval.
func setDefaultCount[T any](doc *manifest.Doc[T], at string, rule *ApprovalRule) {
	if !doc.HasField(at) {
		rule.Count = 1
	}
}

// checkRule returns the fault of an approval rule: a role without people, or more approvals than people can give.
func (s *Settings) checkRule(rule ApprovalRule, file string, line int) *manifest.Fault {
	fault := func(code manifest.FaultCode, format string, args ...any) *manifest.Fault {
		return &manifest.Fault{File: file, Line: line, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	eligible := map[string]bool{} // by person
	for _, role := range rule.From {
		assigned := false
		for name, p := range s.People {
			if p != nil && slices.Contains(p.Roles, role) {
				eligible[name], assigned = true, true
			}
		}
		if !assigned {
			return fault(manifest.UnknownReference,
				"approvals must come from the role %.60q, which nobody in people of %s has: assign it there",
				role, settingsFile)
		}
	}
	count := len(eligible)
	if len(rule.From) == 0 {
		count = len(s.People)
	}
	switch {
	case count >= rule.Count:
		return nil
	case count == 0:
		f := fault(manifest.Missing, "nobody can approve: list approvers in people of %s", settingsFile)
		f.Warning = true
		return f
	}
	return fault(manifest.Conflict,
		"%d approvals are required, but only %d in people of %s can approve: add people, or require fewer",
		rule.Count, count, settingsFile)
}

// checkPeople checks that each person can be distinguished from the others (R22).
func checkPeople(doc *manifest.Doc[Settings]) (faults []manifest.Fault) {
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	emails, keys := map[string]string{}, map[string]string{} // by address or key: the person
	for _, name := range slices.Sorted(maps.Keys(doc.Value.People)) {
		at, p := "people["+name+"]", doc.Value.People[name]
		if !personPattern().MatchString(name) {
			fault(manifest.WrongName, at,
				"%.70q can't name a person: use letters, digits, dots and hyphens, at most 63", name)
		}
		if p == nil || p.Email == "" && len(p.Keys) == 0 {
			fault(manifest.Missing, at, "%s has neither an e-mail address nor a key", name)
			continue
		}
		if email := strings.ToLower(p.Email); email != "" {
			if !strings.Contains(email, "@") || strings.ContainsAny(email, " <>\n") {
				fault(manifest.WrongValue, at+".email", "%.100q is not an e-mail address", p.Email)
			} else if other, taken := emails[email]; taken {
				fault(manifest.Duplicate, at+".email",
					"%s has this e-mail address too: each person needs one of their own", other)
			}
			emails[email] = name
		}
		for i, text := range p.Keys {
			key, err := parseKey(text)
			code := manifest.WrongValue
			if other, taken := keys[key]; err == nil && taken {
				code = manifest.Duplicate
				err = fmt.Errorf("%s has this key already: a key is one person's", other)
			}
			if err != nil {
				fault(code, indexPath(at+".keys", i), "%v", err)
			}
			keys[key] = name
		}
	}
	return faults
}

// checkOwners checks that each owner can sign (R52).
func checkOwners(doc *manifest.Doc[Settings]) (faults []manifest.Fault) {
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	owners := doc.Value.Owners
	for i, name := range owners {
		at := indexPath("owners", i)
		switch p := doc.Value.People[name]; {
		case slices.Contains(owners[:i], name):
			fault(manifest.Duplicate, at, "%s is there twice", name)
		case p == nil:
			fault(manifest.UnknownReference, at, "%.70q is not in people", name)
		case len(p.Keys) == 0:
			fault(manifest.Missing, at, "%s has no key, and owners sign their changes: add one to people.%s.keys",
				name, name)
		}
	}
	return faults
}

// Notes say what the settings do not ask for, and so whose word the repository takes. They are no faults.
func (s *Settings) Notes() []string {
	if len(s.Owners) > 0 {
		return nil
	}
	return []string{
		"owners: not set: whoever may push may change people, and how many of them must approve (docs/protect.md)"}
}

// parseKey parses an SSH public key as in authorized_keys, without its comment.
func parseKey(text string) (string, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return "", fmt.Errorf("%.60q is not an SSH public key, such as ssh-ed25519 AAAA…", text)
	case len(options) > 0 || strings.TrimSpace(string(rest)) != "":
		return "", fmt.Errorf("%.60q is more than one SSH public key without options", text)
	}
	return string(key.Marshal()), nil
}

func checkWebhooks(doc *manifest.Doc[Settings]) (faults []manifest.Fault) {
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	seen := map[string]bool{}
	for i, w := range doc.Value.Webhooks {
		at := indexPath("webhooks", i)
		switch {
		case !manifest.IsLabel(w.Name):
			fault(manifest.WrongName, at+".name", "%.70q can't name a webhook: %s", w.Name, labelRule)
		case seen[w.Name]:
			fault(manifest.Duplicate, at+".name", "webhook %s is there twice", w.Name)
		}
		seen[w.Name] = true
		if err := CheckURL(w.URL); err != nil {
			fault(URLFaultCode(err), at+".url", "url %v", err)
		}
		for j, kind := range w.Types {
			if !slices.Contains(EventTypes(), kind) {
				fault(manifest.WrongValue, indexPath(at+".types", j), "there is no event type %.60q; there are: %s",
					kind, strings.Join(EventTypes(), ", "))
			}
		}
	}
	return faults
}

var errPassword = errors.New("must not have a user or password: they would be in git; " +
	"set a webhook's secret in the control plane's environment")

// URLFaultCode returns the class of an error of CheckURL.
func URLFaultCode(err error) manifest.FaultCode {
	if errors.Is(err, errPassword) {
		return manifest.Secret
	}
	return manifest.WrongValue
}

// CheckURL checks that a URL is https, or http on loopback, and has no password: git has many readers.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("must be a URL such as https://hooks.example.com/flags, not %.100q", text)
	case u.User != nil:
		return errPassword
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return fmt.Errorf("must be https, or http on this machine only, not %.100q", text)
	}
	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
