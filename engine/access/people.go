package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
)

// Person is who signed in, or a workload, as its issuer says. Issuer and Subject together never name anybody else.
type Person struct {
	Issuer  string   `json:"issuer"`
	Subject string   `json:"subject"`
	Name    string   `json:"name,omitempty"`
	Email   string   `json:"email,omitempty"` // empty unless the issuer verified it
	Groups  []string `json:"groups,omitempty"`
	// The issuer says that there are more groups than it sends
	GroupsLeftOut bool `json:"-"`
}

// Label returns how the audit and logs call the person.
func (p Person) Label() string {
	if p.Email != "" {
		return p.Email
	}
	return p.Subject + " of " + p.Issuer
}

// GrantsOf returns the roles that access in sluice.yaml gives a person: the union of what the groups and the address
// have. nil gives none.
func GrantsOf(a *channels.Access, p Person) Grants {
	return collect(a, func(c channels.ChannelAccess) (all Roles) {
		for _, group := range p.Groups {
			all = append(all, toRoles(c.Groups[group])...)
		}
		if p.Email != "" {
			all = append(all, toRoles(c.Emails[strings.ToLower(p.Email)])...)
		}
		return all
	})
}

// GrantsOfWorkload returns the roles that access gives a program whose token is of an issuer, for audiences, with
// claims.
func GrantsOfWorkload(a *channels.Access, issuer string, audiences []string, claims map[string]any) Grants {
	return collect(a, func(c channels.ChannelAccess) (all Roles) {
		for _, w := range c.Workloads {
			if w.Issuer == issuer && slices.Contains(audiences, w.Audience) && matches(w.Claims, claims) {
				all = append(all, toRoles(w.Roles)...)
			}
		}
		return all
	})
}

// collect returns what roles returns for everywhere and for each channel.
func collect(a *channels.Access, roles func(channels.ChannelAccess) Roles) (g Grants) {
	if a == nil {
		return g
	}
	everywhere := channels.ChannelAccess{Groups: a.Groups, Emails: a.Emails, Workloads: a.Workloads}
	g.Everywhere = roles(everywhere).normalise()
	for name, c := range a.Channels {
		if c == nil {
			continue
		}
		if found := roles(*c).normalise(); len(found) > 0 {
			if g.In == nil {
				g.In = map[string]Roles{}
			}
			g.In[name] = found
		}
	}
	return g
}

func toRoles(names []string) Roles {
	all := make(Roles, len(names))
	for i, name := range names {
		all[i] = Role(name)
	}
	return all
}

// matches reports whether every wanted claim is there. A claim that is a list matches by one of its elements.
func matches(want map[string]string, claims map[string]any) bool {
	for name, value := range want {
		got, has := claims[name]
		if !has || !claimIs(got, value) {
			return false
		}
	}
	return len(want) > 0
}

func claimIs(got any, want string) bool {
	switch got := got.(type) {
	case string:
		return got == want
	case bool, float64:
		return fmt.Sprint(got) == want
	case []any:
		return slices.ContainsFunc(got, func(one any) bool {
			_, list := one.([]any)
			return !list && claimIs(one, want)
		})
	}
	return false
}

// Issuers returns the issuers of workloads that access names.
func Issuers(a *channels.Access) (all []string) {
	collect(a, func(c channels.ChannelAccess) Roles {
		for _, w := range c.Workloads {
			all = append(all, w.Issuer)
		}
		return nil
	})
	slices.Sort(all)
	return slices.Compact(all)
}
