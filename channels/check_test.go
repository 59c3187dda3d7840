package channels

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// Every mistake that a policy alone can have is a fault with its line; the channel has no policy then (R6).
func TestPolicyFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown field", "promot: auto\n", `3: unknown field "promot"; did you mean "promote"?`},
		{"after itself", "after: [x]\n", "3: a channel can't come after itself"},
		{"after twice", "after: [staging, staging]\n", `3: channel "staging" is there twice`},
		{"no kind", "gates:\n  - name: nothing\n",
			"4: a gate has exactly one of soak, window, windows, approval, check, metric, when"},
		{"two kinds", "gates:\n  - check: {url: http://a/}\n    approval: {}\n", "4: a gate has exactly one of"},
		{"one name twice", "gates:\n  - {name: a, check: {url: http://a/}}\n  - {name: a, check: {url: http://a/}}\n",
			`5: there is a gate "a" already`},
		{"a name that is a generated one",
			"gates:\n  - check: {url: http://a/}\n  - {name: check-2, check: {url: http://a/}}\n  - check: {url: http://a/}\n", `6: there is a gate "check-2" already`},
		{"another gate's name", "gates:\n  - name: freeze\n    check: {url: http://a/}\n",
			`4: "freeze" means another gate`},
		{"a kind as a name", "gates:\n  - name: soak\n    check: {url: http://a/}\n", `4: "soak" means another gate`},
		{"no name", "gates:\n  - name: A b\n    check: {url: http://a/}\n", `4: "A b" can't name a gate`},
		{"too many gates", "gates:\n" + strings.Repeat("  - approval: {}\n", 33), "3: 33 gates: at most 32 are read"},
		{"soak for nothing", "after: [staging]\ngates:\n  - soak:\n      for: 0s\n", "6: for must be more than 0"},
		{"soak percent", "after: [staging]\ngates:\n  - soak:\n      for: 1h\n      percent: 101\n",
			"7: percent must be from 0 to 100, not 101"},
		{"fault 44: soak without upstream", "gates:\n  - soak: {for: 1h}\n",
			"4: a soak is counted in upstream channels: name one in after"},
		{"fault 20: unknown zone",
			"gates:\n  - window:\n      opens: 0 9 * * *\n      for: 1h\n      zone: Europe/Berlin2\n",
			`7: unknown zone "Europe/Berlin2"`},
		{"fault 20: a line that never fires", "gates:\n  - window:\n      opens: 0 9 30 2 *\n      for: 1h\n",
			`5: never opens: no day matches "0 9 30 2 *"`},
		{"fault 20: not a cron line", "gates:\n  - window:\n      opens: nine\n      for: 1h\n", `5: cron line "nine"`},
		{"fault 20: never open", "gates:\n  - window:\n      opens: 0 9 * * *\n      for: 0h\n",
			"6: for must be more than 0, else the window never opens"},
		{"a role twice", "gates:\n  - approval: {from: [a, a]}\n", `4: role "a" is there twice`},
		{"not a URL", "gates:\n  - check: {url: \"ftp://a/\"}\n", `4: "ftp://a/" is not an http or https URL`},
		{"no host", "gates:\n  - check: {url: \"http:///x\"}\n", `4: "http:///x" names no host`},
		{"R53: a fragment", "gates:\n  - check: {url: \"http://a/x#y\"}\n", `4: "http://a/x#y" must not contain any of #`},
		{"R53: an empty fragment", "gates:\n  - metric: {prometheus: \"http://a/x#\", query: up, below: 1}\n",
			`4: "http://a/x#" must not contain any of #?`},
		{"R53: a query in a base", "gates:\n  - metric: {prometheus: \"http://a/x?\", query: up, below: 1}\n",
			`4: "http://a/x?" must not contain any of #?`},
		{"unknown placeholder", "gates:\n  - check: {url: \"http://a/{version}\"}\n", `4: "{version}" is not replaced`},
		{"a negative time", "gates:\n  - check:\n      url: http://a/\n      validFor: -1s\n",
			"6: gates[0].check.validFor must be a length of time"},
		{"too patient", "gates:\n  - check:\n      url: http://a/\n      timeout: 1h\n",
			"6: timeout must be at most 1m"},
		{"metric without bounds", "gates:\n  - metric: {prometheus: http://a/, query: up}\n",
			"4: a metric needs a bound"},
		{"metric between nothing",
			"gates:\n  - metric:\n      {prometheus: http://a/, query: up, above: 2, below: 1}\n",
			"5: nothing is above 2 and below 1"},
		{"a metric of nothing", "gates:\n  - metric: {below: 1}\n", "4: prometheus and query are missing, or exported"},
		{"a metric without a query", "gates:\n  - metric: {prometheus: http://a/, below: 1}\n", "4: query is missing"},
		{"a metric of both", "after: [staging]\ngates:\n  - metric: {prometheus: http://a/, exported: x, below: 1}\n",
			"5: a metric is asked of prometheus, or was exported"},
		{"an exported metric of no upstream", "gates:\n  - metric: {exported: x, below: 1}\n",
			"4: cells of upstream channels export it: name a channel in after"},
		{"an exported metric's name", "after: [staging]\ngates:\n  - metric: {exported: x y, below: 1}\n",
			`5: "x y" can't be a metric's name`},
		{"an exported metric for days", "after: [staging]\ngates:\n  - metric: {exported: x, within: 24h, below: 1}\n",
			"5: within is from 1m0s to 2h0m0s"},
		{"labels of a query", "gates:\n  - metric: {prometheus: http://a/, query: up, cells: 3, below: 1}\n",
			"4: where, over, within and cells are for exported"},
		{"metric NaN", "gates:\n  - metric: {prometheus: http://a/, query: up, above: .nan}\n", "4: "},
		{"when", "gates:\n  - when: release.fixs.size() > 0\n", "4: column 8: undefined field 'fixs'"},
		{"freeze", "freezes:\n  - {from: 2027-01-05T00:00:00Z, until: 2026-12-20T00:00:00Z}\n",
			"4: a freeze must end after it begins"},
		{"settleWithin", "settleWithin: 0s\n", "3: settleWithin must be more than 0"},
		{"stall", "rollout:\n  stall: -1m\n", "4: rollout.stall must be a length of time"},
		{"no stall", "rollout:\n  stall: 0s\n", "4: rollout.stall must be more than 0"},
		{"no watch", "rollout:\n  watch: 0m\n", "4: rollout.watch must be more than 0"},
		{"an answer for no time", "gates:\n  - check: {url: \"http://a/\", validFor: 0s}\n",
			"4: gates[0].check.validFor must be more than 0"},
		{"a value for no time", "after: [staging]\ngates:\n  - metric: {exported: x, within: 0s, below: 1}\n",
			"5: gates[0].metric.within must be more than 0"},
		{"a drain of no time", "maintenance: {drain: 0s}\n", "3: maintenance.drain must be more than 0"},
		{"waves that shrink", "rollout:\n  waves:\n    - {percent: 50}\n    - {percent: 25}\n    - {percent: 100}\n",
			"6: waves are cumulative: more than the 50 percent before"},
		{"cells that shrink", "rollout:\n  waves:\n    - {cells: 3}\n    - {cells: 3}\n    - {percent: 100}\n",
			"6: waves are cumulative: more than the 3 cells before"},
		{"an empty wave", "rollout:\n  waves:\n    - {soak: 1h}\n    - {percent: 100}\n",
			"5: a wave needs cells, percent or"},
		{"two sizes", "rollout:\n  waves:\n    - {cells: 1, percent: 10}\n    - {percent: 100}\n",
			"5: a wave counts cells or percent, not both"},
		{"late labels", "rollout:\n  waves:\n    - {cells: 1}\n    - {percent: 100, labels: {a: b}}\n",
			"6: only the first wave chooses by labels"},
		{"not all", "rollout:\n  waves:\n    - {percent: 50}\n", "5: warning: the last wave is not 100 percent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml", header+tt.text), "x")
			if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), "channels/x/channel.yaml:"+tt.want) {
				t.Errorf("got\n%s\nwant\nchannels/x/channel.yaml:%s", joinFaults(faults), tt.want)
			}
			if fatal := manifest.Fatal(faults); (p == nil) != fatal {
				t.Errorf("policy %v with fatal %v", p, fatal)
			}
		})
	}
}

// A field that is there without a value is never read as absent: the laxest meaning would win without a word.
func TestEmptyFieldsAreFaults(t *testing.T) {
	const gate = "after: [a]\ngates:\n  - "
	for _, tt := range []struct{ text, want string }{
		{"after:\n", "3: after is empty"},
		{"after: []\n", "3: after is empty"},
		{"after: ~\n", "3: after is empty"},
		{"floor: \"\"\n", "3: floor is empty"},
		{"promote:\n", "3: promote is empty"},
		{"onFailure: null\n", "3: onFailure is empty"},
		{"settleWithin:\n", "3: settleWithin is empty"},
		{"gates:\n", "3: gates is empty"},
		{"freezes: []\n", "3: freezes is empty"},
		{"freezes:\n  - {from: 2027-01-05T00:00:00Z, until: 2027-01-06T00:00:00Z, reason: }\n",
			"4: freezes[0].reason is empty"},
		{gate + "approval: {count: 2, from: []}\n", "5: gates[0].approval.from is empty"},
		{gate + "approval: {from: }\n", "5: gates[0].approval.from is empty"},
		{gate + "approval: {count: , from: [a]}\n", "5: gates[0].approval.count is empty"},
		{gate + "soak: {for: 1h, percent: }\n", "5: gates[0].soak.percent is empty"},
		{gate + "soak: {for: 1h}\n    when:\n", "6: gates[0].when is empty"},
		{gate + "window: {opens: \"0 9 * * *\", for: 1h, zone: \"\"}\n", "5: gates[0].window.zone is empty"},
		{gate + "metric: {prometheus: http://a, query: up, below: 1, above: }\n", "5: gates[0].metric.above is empty"},
		{"rollout:\n", "3: rollout is empty"},
		{"rollout: {waves: }\n", "3: rollout.waves is empty"},
		{"rollout: {waves: []}\n", "3: rollout.waves is empty"},
		{"rollout: {maxInFlight: }\n", "3: rollout.maxInFlight is empty"},
		{"rollout:\n  waves:\n    - {percent: 100, labels: {tier: }}\n", "5: rollout.waves[0].labels[tier] is empty"},
		{"rollout:\n  waves:\n    - {percent: 100, labels: &x }\n", "5: rollout.waves[0].labels is empty"},
	} {
		p, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml", header+tt.text), "x")
		if p != nil || len(faults) != 1 || !strings.HasPrefix(faults[0].String(), "channels/x/channel.yaml:"+tt.want) {
			t.Errorf("%s\ngot\n%s\nwant\nchannels/x/channel.yaml:%s", tt.text, joinFaults(faults), tt.want)
		}
	}
	for _, text := range []string{"description:\n", "rollout: {}\n", "prereleases: false\n"} {
		if p, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml", header+text), "x"); p == nil {
			t.Errorf("%s: %s", text, joinFaults(faults))
		}
	}
}

// A fault in sluice.yaml stops every channel, and says what to do.
func TestPipelineFaults(t *testing.T) {
	ada, bob := sshKeyFor(t, "ada"), sshKeyFor(t, "bob")
	for _, tt := range []struct{ name, text, want string }{
		{"missing", "", "sluice.yaml: is missing: `sluice init` makes a release repository"},
		{"unknown field", pipelineOK + "stale: 5m\n", `sluice.yaml:3: unknown field "stale"`},
		{"staleAfter", pipelineOK + "staleAfter: -5m\n", "sluice.yaml:3: staleAfter must be a length of time"},
		{"freeze", pipelineOK + "freezes:\n  - {from: 2027-01-05T00:00:00Z, until: 2027-01-05T00:00:00Z}\n",
			"sluice.yaml:4: a freeze must end after it begins"},
		{"not a key", pipelineOK + "people:\n  ada:\n    keys:\n      - ssh-ed25519 nonsense\n",
			`sluice.yaml:6: "ssh-ed25519 nonsense" is not an SSH public key`},
		{"a key with options", pipelineOK + "people:\n  ada:\n    keys:\n      - no-pty " + ada + "\n",
			`sluice.yaml:6: "no-pty ssh-ed25519`},
		{"one key for two", pipelineOK + "people:\n  ada: {keys: [" + ada + " laptop]}\n  bob: {keys: [" + bob +
			", " + ada + "]}\n", "sluice.yaml:5: ada has this key already"},
		{"one address for two", pipelineOK + "people:\n  ada: {email: a@example.com}\n  bob: {email: A@example.com}\n",
			"sluice.yaml:5: ada has this e-mail address too"},
		{"not an address", pipelineOK + "people:\n  ada: {email: Ada}\n",
			`sluice.yaml:4: "Ada" is not an e-mail address`},
		{"a name that can't name a file", pipelineOK + "people:\n  ../ada: {email: a@example.com}\n",
			`sluice.yaml:4: "../ada" can't name a person`},
		{"nobody", pipelineOK + "people:\n  ada:\n",
			"sluice.yaml:4: people[ada] is empty: give it a value, or leave it out"},
		{"no keys", pipelineOK + "people:\n  ada: {email: a@example.com, keys: []}\n",
			"sluice.yaml:4: people[ada].keys is empty"},
		{"no owners", pipelineOK + "owners:\n", "sluice.yaml:3: owners is empty"},
		{"stale at once", pipelineOK + "staleAfter: 0s\n", "sluice.yaml:3: staleAfter must be more than 0"},
		{"signed, or not", pipelineOK + "signedReleases:\n", "sluice.yaml:3: signedReleases is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fsys := repositoryFS("channels/a/channel.yaml", header, "sluice.yaml", tt.text)
			if tt.text == "" {
				delete(fsys, "sluice.yaml")
			}
			set, faults := Load(nil, fsys)
			if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), tt.want) {
				t.Errorf("got\n%s\nwant\n%s", joinFaults(faults), tt.want)
			}
			if s := set.Channels["a"]; s == nil || s.Policy != nil || len(s.Faults) != 1 ||
				len(set.PipelineFaults) != 1 {
				t.Errorf("the channel goes on: %+v", s)
			}
			if set.Pipeline.StaleAfter != 5*time.Minute {
				t.Errorf("no defaults: %+v", set.Pipeline)
			}
		})
	}
}
