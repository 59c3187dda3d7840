package channels

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// Access is access in sluice.yaml: the roles of people and programs at the control plane, by who vouches for them.
// Package engine/access says what a role permits.
type Access struct {
	Groups    map[string][]string       `yaml:"groups" json:"groups,omitempty" doc:"roles by the name of a group, as the identity provider says it"`
	Emails    map[string][]string       `yaml:"emails" json:"emails,omitempty" doc:"roles by an e-mail address that the identity provider verified"`
	Workloads []Workload                `yaml:"workloads" json:"workloads,omitempty" doc:"programs that show a token of an issuer of their own, such as CI"`
	Channels  map[string]*ChannelAccess `yaml:"channels" json:"channels,omitempty" doc:"further roles, for single channels"`
}

// ChannelAccess is the part of Access for one channel.
type ChannelAccess struct {
	Groups    map[string][]string `yaml:"groups" json:"groups,omitempty" doc:"as above, for this channel only"`
	Emails    map[string][]string `yaml:"emails" json:"emails,omitempty" doc:"as above, for this channel only"`
	Workloads []Workload          `yaml:"workloads" json:"workloads,omitempty" doc:"as above, for this channel only"`
}

// Workload is a program whose tokens another issuer signs. All of Claims must match.
type Workload struct {
	Issuer   string            `yaml:"issuer" json:"issuer" required:"true" doc:"https:// URL of who signs the tokens"`
	Audience string            `yaml:"audience" json:"audience" required:"true" doc:"whom the tokens must be for: a name that you choose and CI asks for"`
	Claims   map[string]string `yaml:"claims" json:"claims" required:"true" doc:"claims of the token and their values, such as repository: acme/shop"`
	Roles    []string          `yaml:"roles" json:"roles" required:"true" enum:"viewer,operator,approver,admin"`
}

// accessRoles returns the roles that access may give; engine/access says what they permit.
func accessRoles() []string { return []string{"viewer", "operator", "approver", "admin"} }

// maxClaim bounds a claim's name and value in bytes.
const maxClaim = 1024

// checkAccess returns the faults of access.
func checkAccess(doc *manifest.Doc[Pipeline], a *Access) (faults []manifest.Fault) {
	if a == nil {
		return nil
	}
	check := func(at string, everywhere bool, g ChannelAccess) {
		for _, kind := range []struct {
			name  string
			roles map[string][]string
		}{{"groups", g.Groups}, {"emails", g.Emails}} {
			for _, who := range slices.Sorted(maps.Keys(kind.roles)) {
				at := fmt.Sprintf("%s.%s[%s]", at, kind.name, who)
				faults = append(faults, checkRoles(doc, at, kind.roles[who], everywhere)...)
				if kind.name == "emails" && (!strings.Contains(who, "@") || who != strings.ToLower(who)) {
					faults = append(faults, doc.Fault(manifest.WrongValue, at,
						"%.100q is not an e-mail address in lower case", who))
				}
			}
		}
		for i, w := range g.Workloads {
			at := fmt.Sprintf("%s.workloads[%d]", at, i)
			faults = append(faults, checkRoles(doc, at+".roles", w.Roles, everywhere)...)
			faults = append(faults, checkWorkload(doc, at, w)...)
		}
	}
	check("access", true, ChannelAccess{a.Groups, a.Emails, a.Workloads})
	for _, name := range slices.Sorted(maps.Keys(a.Channels)) {
		at := "access.channels[" + name + "]"
		if !manifest.IsLabel(name) {
			faults = append(faults, doc.Fault(manifest.WrongName, at, "%.70q can't be a channel's name", name))
		}
		if g := a.Channels[name]; g != nil {
			check(at, false, *g)
		}
	}
	return faults
}

// checkRoles checks a list of roles. In a channel, viewer would give nothing: whoever has a role anywhere may read.
func checkRoles(doc *manifest.Doc[Pipeline], at string, roles []string, everywhere bool) (faults []manifest.Fault) {
	for i, role := range roles {
		switch {
		case !slices.Contains(accessRoles(), role):
			faults = append(faults, doc.Fault(manifest.WrongValue, at, "there is no role %.80q: give %s", role,
				strings.Join(accessRoles(), ", ")))
		case slices.Contains(roles[:i], role):
			faults = append(faults, doc.Fault(manifest.Duplicate, at, "%s is there twice", role))
		case role == "viewer" && !everywhere:
			faults = append(faults, doc.Fault(manifest.Conflict, at,
				"a viewer of one channel would see all of them: put viewer under access.groups or access.emails"))
		}
	}
	return faults
}

func checkWorkload(doc *manifest.Doc[Pipeline], at string, w Workload) (faults []manifest.Fault) {
	u, err := url.Parse(w.Issuer)
	if w.Issuer != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
		u.Fragment != "") {
		faults = append(faults, doc.Fault(manifest.WrongValue, at+".issuer",
			"%.200q is not an https:// URL without a query, such as https://token.actions.githubusercontent.com", w.Issuer))
	}
	if len(w.Claims) == 0 && w.Issuer != "" {
		faults = append(faults, doc.Fault(manifest.Missing, at,
			"without claims, every program that %.200s knows would have these roles: say which, such as repository",
			w.Issuer))
	}
	for _, name := range slices.Sorted(maps.Keys(w.Claims)) {
		if value := w.Claims[name]; name == "" || value == "" || len(name)+len(value) > maxClaim {
			faults = append(faults, doc.Fault(manifest.WrongValue, at+".claims",
				"the claim %.80q needs a name and a value, of %d bytes together at most", name, maxClaim))
		}
	}
	return faults
}

// checkAccessReferences warns of channels in access that do not exist.
func checkAccessReferences(p *Pipeline, exists func(string) bool) (faults []manifest.Fault) {
	if p.Access == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.Access.Channels)) {
		if !exists(name) {
			faults = append(faults, manifest.Fault{File: pipelineFile, Warning: true, Code: manifest.UnknownReference,
				Message: fmt.Sprintf("access.channels: there is no channel %.70q", name)})
		}
	}
	return faults
}
