package channels

import (
	"strings"
	"testing"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	const workload = "{issuer: 'https://ci.example', audience: sluice, claims: {repository: acme/shop}, roles: [operator]}"
	good := pipelineOK + "access:\n" +
		"  groups: {release-managers: [operator, approver], 'Domain Users': [viewer]}\n" +
		"  emails: {ada@example.com: [admin]}\n" +
		"  workloads: [" + workload + "]\n" +
		"  channels: {eu: {groups: {eu: [operator]}, emails: {bo@example.com: [admin]}, workloads: [" + workload + "]}}\n"
	p, faults := ParsePipeline(nil, repositoryFS("sluice.yaml", good))
	if len(faults) > 0 || p.Access == nil || len(p.Access.Groups) != 2 || len(p.Access.Workloads) != 1 ||
		p.Access.Channels["eu"].Emails["bo@example.com"][0] != "admin" {
		t.Fatalf("%s\n%+v", joinFaults(faults), p)
	}
	if _, faults := Load(nil, repositoryFS("sluice.yaml", good)); len(faults) != 1 || !faults[0].Warning ||
		!strings.Contains(faults[0].Message, `no channel "eu"`) {
		t.Error(joinFaults(faults))
	}
	for name, c := range map[string]struct{ access, want string }{
		"a role":         {"groups: {a: [king]}", `no role "king"`},
		"no role":        {"groups: {a: []}", "is empty"},
		"twice":          {"groups: {a: [viewer, viewer]}", "viewer is there twice"},
		"an address":     {"emails: {ada: [viewer]}", "not an e-mail address"},
		"capitals":       {"emails: {Ada@example.com: [viewer]}", "in lower case"},
		"a viewer":       {"channels: {eu: {groups: {a: [viewer]}}}", "would see all of them"},
		"a channel":      {"channels: {'E U': {groups: {a: [operator]}}}", "can't be a channel's name"},
		"a field":        {"people: {}", "people"},
		"http":           {"workloads: [{issuer: 'http://ci.example', audience: a, claims: {b: c}, roles: [viewer]}]", "https://"},
		"a password":     {"workloads: [{issuer: 'https://a:b@ci.example', audience: a, claims: {b: c}, roles: [viewer]}]", "https://"},
		"no claims":      {"workloads: [{issuer: 'https://ci.example', audience: a, roles: [viewer]}]", "claims"},
		"empty claims":   {"workloads: [{issuer: 'https://ci.example', audience: a, claims: {}, roles: [viewer]}]", "claims"},
		"an empty claim": {"workloads: [{issuer: 'https://ci.example', audience: a, claims: {b: ''}, roles: [viewer]}]", "value"},
		"no audience":    {"workloads: [{issuer: 'https://ci.example', claims: {b: c}, roles: [viewer]}]", "audience"},
		"no issuer":      {"workloads: [{audience: a, claims: {b: c}, roles: [viewer]}]", "issuer"},
		"a workload's":   {"workloads: [{issuer: 'https://ci.example', audience: a, claims: {b: c}, roles: [king]}]", "king"},
	} {
		p, faults := ParsePipeline(nil, repositoryFS("sluice.yaml", pipelineOK+"access: {"+c.access+"}\n"))
		if p != nil || !strings.Contains(joinFaults(faults), c.want) || !strings.Contains(joinFaults(faults),
			"sluice.yaml:3") {
			t.Errorf("%s: %s", name, joinFaults(faults))
		}
	}
}
