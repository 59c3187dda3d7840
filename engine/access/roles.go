package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Role permits some actions.
type Role string

// Every role may read. Operator permits actions on cells and rollouts, Approver permits approvals, and Admin permits
// everything, including tokens.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Approver Role = "approver"
	Admin    Role = "admin"
)

// AllRoles returns all roles, from the least permitted to the most.
func AllRoles() []Role { return []Role{Viewer, Operator, Approver, Admin} }

// Roles is a set of roles.
type Roles []Role

// ParseRoles parses names of roles, each of which may be several with commas between them.
func ParseRoles(names ...string) (Roles, error) {
	var all Roles
	for _, name := range strings.Split(strings.Join(names, ","), ",") {
		r := Role(strings.TrimSpace(name))
		if !slices.Contains(AllRoles(), r) {
			return nil, fmt.Errorf("there is no role %.80q: give viewer, operator, approver or admin, or several",
				string(r))
		}
		all = append(all, r)
	}
	return all.normalise(), nil
}

// normalise returns each role once, in the order of AllRoles.
func (r Roles) normalise() Roles {
	var out Roles
	for _, role := range AllRoles() {
		if slices.Contains(r, role) {
			out = append(out, role)
		}
	}
	return out
}

// String returns the names with commas between them, which ParseRoles reads.
func (r Roles) String() string {
	names := make([]string, len(r))
	for i, role := range r {
		names[i] = string(role)
	}
	return strings.Join(names, ",")
}

// Permits reports whether any of the roles permits what need permits.
func (r Roles) Permits(need Role) bool {
	for _, has := range r {
		if slices.Contains(AllRoles(), has) && (has == need || has == Admin || need == Viewer) {
			return true
		}
	}
	return false
}

// Grants are the roles of one caller.
type Grants struct {
	Everywhere Roles            `json:"roles"`
	In         map[string]Roles `json:"channels,omitempty" doc:"roles in single channels, beside those everywhere"`
}

// Permits reports whether the caller may do in a channel what need permits; channel is empty for what concerns no
// channel, or more than one. Reading is one right: whoever has any role may read everything.
func (g Grants) Permits(need Role, channel string) bool {
	if g.Everywhere.Permits(need) || channel != "" && g.In[channel].Permits(need) {
		return true
	}
	return need == Viewer && g.Any()
}

// Any reports whether the caller has a role at all.
func (g Grants) Any() bool {
	if g.Everywhere.Permits(Viewer) {
		return true
	}
	for _, roles := range g.In {
		if roles.Permits(Viewer) {
			return true
		}
	}
	return false
}

// String says the grants in words, for people.
func (g Grants) String() string {
	var parts []string
	if len(g.Everywhere) > 0 {
		parts = append(parts, g.Everywhere.String())
	}
	for _, channel := range slices.Sorted(maps.Keys(g.In)) {
		parts = append(parts, g.In[channel].String()+" in "+channel)
	}
	if len(parts) == 0 {
		return "no role"
	}
	return strings.Join(parts, "; ")
}
