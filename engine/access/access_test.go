package access_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
)

func TestRolesAreASet(t *testing.T) {
	t.Parallel()
	both, err := access.ParseRoles("approver, operator", "operator")
	if err != nil || both.String() != "operator,approver" {
		t.Fatalf("%v (%v)", both, err)
	}
	for need, want := range map[access.Role]bool{
		access.Viewer: true, access.Operator: true, access.Approver: true, access.Admin: false, "public": false,
		"": false,
	} {
		if both.Permits(need) != want {
			t.Errorf("operator and approver: %s is %t", need, !want)
		}
		if got := (access.Roles{access.Operator}).Permits(need); got != (want && need != access.Approver) {
			t.Errorf("operator: %s is %t", need, got)
		}
		if (access.Roles{"root", ""}).Permits(need) || access.Roles(nil).Permits(need) {
			t.Errorf("an unknown role, or none, permits %s", need)
		}
	}
	for _, bad := range []string{"", "root", "operator;admin", "Admin"} {
		if r, err := access.ParseRoles(bad); err == nil {
			t.Errorf("%q is read as %v", bad, r)
		}
	}
}

func TestGrantsInChannels(t *testing.T) {
	t.Parallel()
	g := access.Grants{Everywhere: access.Roles{access.Approver}, In: map[string]access.Roles{
		"eu": {access.Operator}, "us": {access.Admin}}}
	for _, c := range []struct {
		need    access.Role
		channel string
		want    bool
	}{
		{access.Approver, "eu", true}, {access.Approver, "", true}, {access.Operator, "eu", true},
		{access.Operator, "us", true}, {access.Operator, "asia", false}, {access.Operator, "", false},
		{access.Admin, "us", true}, {access.Admin, "", false}, {access.Viewer, "asia", true}, {access.Viewer, "", true},
	} {
		if got := g.Permits(c.need, c.channel); got != c.want {
			t.Errorf("%s in %q: %t", c.need, c.channel, got)
		}
	}
	if (access.Grants{In: map[string]access.Roles{"eu": nil}}).Any() {
		t.Error("no role counts as one")
	}
	if s := g.String(); s != "approver; operator in eu; admin in us" {
		t.Error(s)
	}
}

// Who signs in has what the groups and the verified address have together, everywhere and in channels.
func TestGrantsOf(t *testing.T) {
	t.Parallel()
	a := &channels.Access{
		Groups: map[string][]string{"release-managers": {"operator", "approver"}, "everybody": {"viewer"}},
		Emails: map[string][]string{"ada@example.com": {"admin"}},
		Channels: map[string]*channels.ChannelAccess{
			"eu": {Groups: map[string][]string{"eu-oncall": {"operator"}}}, "us": nil,
		},
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = strings.Repeat("g", 30)
	}
	for name, c := range map[string]struct {
		who  access.Person
		want string
	}{
		"a group":           {access.Person{Groups: []string{"release-managers"}}, "operator,approver"},
		"two groups":        {access.Person{Groups: []string{"everybody", "release-managers"}}, "viewer,operator,approver"},
		"an address":        {access.Person{Email: "Ada@Example.com"}, "admin"},
		"of one channel":    {access.Person{Groups: []string{"eu-oncall"}}, "operator in eu"},
		"no groups":         {access.Person{Subject: "release-managers", Name: "ada@example.com"}, "no role"},
		"a group's address": {access.Person{Groups: []string{"ada@example.com"}, Email: "everybody"}, "no role"},
		"a thousand groups": {access.Person{Groups: append(many, "eu-oncall", "everybody")}, "viewer; operator in eu"},
		"another letter":    {access.Person{Groups: []string{"Release-Managers"}}, "no role"},
		"an empty group":    {access.Person{Groups: []string{""}}, "no role"},
	} {
		if got := access.GrantsOf(a, c.who).String(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := access.GrantsOf(nil, c.who); got.Any() {
			t.Errorf("%s: without access: %s", name, got)
		}
	}
}

// A workload needs the issuer, the audience and every claim.
func TestGrantsOfWorkload(t *testing.T) {
	t.Parallel()
	const issuer = "https://ci.example"
	a := &channels.Access{
		Workloads: []channels.Workload{{Issuer: issuer, Audience: "sluice", Roles: []string{"operator"},
			Claims: map[string]string{"repository": "acme/shop", "ref_protected": "true"}}},
		Channels: map[string]*channels.ChannelAccess{"eu": {Workloads: []channels.Workload{{Issuer: issuer, Audience: "eu",
			Roles: []string{"approver"}, Claims: map[string]string{"environment": "eu"}}}}},
	}
	for name, c := range map[string]struct {
		issuer, audience, claims, want string
	}{
		"all":                {issuer, "sluice", `{"repository":"acme/shop","ref_protected":"true"}`, "operator"},
		"a boolean":          {issuer, "sluice", `{"repository":"acme/shop","ref_protected":true}`, "operator"},
		"a list":             {issuer, "sluice", `{"repository":["x","acme/shop"],"ref_protected":true}`, "operator"},
		"a nested list":      {issuer, "sluice", `{"repository":[["acme/shop"]],"ref_protected":true}`, "no role"},
		"another issuer":     {"https://ci.example/", "sluice", `{"repository":"acme/shop","ref_protected":true}`, "no role"},
		"another audience":   {issuer, "sluice2", `{"repository":"acme/shop","ref_protected":true}`, "no role"},
		"another's":          {issuer, "sluice", `{"repository":"acme/shop2","ref_protected":true}`, "no role"},
		"a claim is missing": {issuer, "sluice", `{"repository":"acme/shop"}`, "no role"},
		"null":               {issuer, "sluice", `{"repository":"acme/shop","ref_protected":null}`, "no role"},
		"of a channel":       {issuer, "eu", `{"environment":"eu"}`, "approver in eu"},
	} {
		var claims map[string]any
		if err := json.Unmarshal([]byte(c.claims), &claims); err != nil {
			t.Fatal(err)
		}
		if got := access.GrantsOfWorkload(a, c.issuer, []string{"other", c.audience}, claims).String(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	a.Workloads[0].Claims = nil
	if g := access.GrantsOfWorkload(a, issuer, []string{"sluice"}, map[string]any{"x": "y"}); g.Any() {
		t.Errorf("without claims: %s", g)
	}
	if got := access.Issuers(a); len(got) != 1 || got[0] != issuer {
		t.Error(got)
	}
}
