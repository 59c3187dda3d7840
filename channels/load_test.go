package channels

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/manifest"
)

const (
	digest     = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	header     = "apiVersion: sluice/v1\nkind: Channel\n"
	pipelineOK = "apiVersion: sluice/v1\nkind: Pipeline\n"
)

// sshKeyFor returns a public key that is the same in every run.
func sshKeyFor(t testing.TB, seed string) string {
	t.Helper()
	private := ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%-32.32s", seed)))
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func pipelineWithPeople(t testing.TB) string {
	return pipelineOK + "people:\n" +
		"  ada: {email: ada@example.com, roles: [release-managers], keys: [" + sshKeyFor(t, "ada") + "]}\n" +
		"  bob: {email: bob@example.com, roles: [release-managers], keys: [" + sshKeyFor(t, "bob") + "]}\n"
}

// repositoryFS makes a repository of texts: name, content, name, content …
func repositoryFS(texts ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i+1 < len(texts); i += 2 {
		fsys[texts[i]] = &fstest.MapFile{Data: []byte(texts[i+1])}
	}
	return fsys
}

func joinFaults(faults []manifest.Fault) string {
	var s []string
	for _, f := range faults {
		s = append(s, f.String())
	}
	return strings.Join(s, "\n")
}

// designExample is the example of the design, section 3.
const designExample = header + `after: [staging]
promote: auto
advance: settled
gates:
  - soak: {for: 24h, cells: 3, percent: 95}
  - window: {opens: "0 9 * * MON-THU", for: 7h, zone: Europe/Berlin}
  - approval: {count: 2, from: [release-managers]}
  - check: {url: "https://ci.example/ok?release={release}&digest={digest}", validFor: 10m}
  - metric: {prometheus: "https://prometheus.example", query: "sum(errors)", below: 0.01, validFor: 10m}
  - when: "release.fixes.size() > 0 || cells.healthy >= 10"
freezes: [{from: 2026-12-20T00:00:00Z, until: 2027-01-05T00:00:00Z, reason: "holidays"}]
rollout:
  waves: [{cells: 1, soak: 30m}, {percent: 25, soak: 2h}, {percent: 100}]
  maxInFlight: 20
  failureBudget: 2
  stall: 10m
onFailure: halt
`

func TestLoad(t *testing.T) {
	fsys := repositoryFS(
		"sluice.yaml", pipelineWithPeople(t),
		"channels/staging/channel.yaml", header,
		"channels/dedicated/channel.yaml", designExample,
		"channels/dedicated/head.yaml", "release: 2026.11.2\ndigest: "+digest+"\nsequence: 41\n",
		"channels/dedicated/decision.json", "{}",
		"channels/dedicated/holds/.gitkeep", "",
		"channels/dedicated/holds/incident-7.yaml", "reason: incident 7\nby: ada\n",
		"channels/dedicated/holds/fair.yaml", "reason: a fair\ncells: [acme]\n",
		"channels/dedicated/skips/41.yaml", "wave: 2\nreason: it soaked long enough elsewhere\nby: ada\n",
		"channels/dedicated/hotfixes/2026.11.3.yaml",
		"digest: "+digest+"\nreason: CVE\nexpiry: 2026-12-01T00:00:00Z\nfixes: [CVE-2026-1]\n",
		"channels/dedicated/approvals/2026.11.3/ada.yaml", "digest: "+digest+"\n",
		"quarantine/2026.11.1.yaml", "digest: "+digest+"\nchannels: [dedicated]\nreason: broken\n",
	)
	set, faults := Load(nil, fsys)
	if len(faults) > 0 {
		t.Fatalf("faults:\n%s", joinFaults(faults))
	}
	if set.Pipeline.StaleAfter != 5*time.Minute || len(set.Pipeline.People) != 2 {
		t.Errorf("pipeline: %+v", set.Pipeline)
	}
	s := set.Channels["dedicated"]
	if s == nil || s.Policy == nil || len(set.Channels) != 2 {
		t.Fatalf("channels: %+v", set.Channels)
	}
	if s.Head == nil || s.Head.Sequence != 41 || s.Head.Digest != digest || len(s.HeadBlob) != 64 ||
		len(s.Policy.Blob) != 64 {
		t.Errorf("head: %+v %s, policy's blob %s", s.Head, s.HeadBlob, s.Policy.Blob)
	}
	if want := (Hold{Reason: "incident 7", By: "ada", ID: "incident-7",
		File: "channels/dedicated/holds/incident-7.yaml"}); !reflect.DeepEqual(s.Holds, []Hold{want}) {
		t.Errorf("holds: %+v", s.Holds)
	}
	if want := (Hold{Reason: "a fair", Cells: []string{"acme"}, ID: "fair",
		File: "channels/dedicated/holds/fair.yaml"}); !reflect.DeepEqual(s.CellHolds, []Hold{want}) {
		t.Errorf("holds of cells: %+v", s.CellHolds)
	}
	if want := (Skip{Wave: 2, Reason: "it soaked long enough elsewhere", By: "ada", Sequence: 41,
		File: "channels/dedicated/skips/41.yaml"}); !slices.Equal(s.Skips, []Skip{want}) {
		t.Errorf("skips: %+v", s.Skips)
	}
	if len(s.Hotfixes) != 1 || s.Hotfixes[0].Release != "2026.11.3" || s.Hotfixes[0].Fixes[0] != "CVE-2026-1" {
		t.Errorf("hotfixes: %+v", s.Hotfixes)
	}
	if want := (ApprovalFile{Digest: digest, Release: "2026.11.3", Person: "ada",
		File: "channels/dedicated/approvals/2026.11.3/ada.yaml"}); len(s.Approvals) != 1 || s.Approvals[0] != want {
		t.Errorf("approvals: %+v", s.Approvals)
	}
	if len(set.Quarantines) != 1 || !set.Quarantines[0].Stops("dedicated", "2026.11.1", digest) ||
		set.Quarantines[0].Stops("staging", "2026.11.1", digest) {
		t.Errorf("quarantines: %+v", set.Quarantines)
	}
	var ids []string
	for _, g := range s.Policy.Gates {
		ids = append(ids, g.ID)
	}
	if got := strings.Join(ids, " "); got != "soak window approval check metric when" {
		t.Errorf("gates: %s", got)
	}
	if s.Policy.Gates[5].When.program == nil {
		t.Error("expressions are not compiled")
	}
	if s.Policy.OnFailure != OnFailureHalt || *s.Policy.Gates[0].Soak.Percent != 95 ||
		s.Policy.Gates[3].Check.ValidFor != 10*time.Minute || s.Policy.Rollout.Stall != 10*time.Minute {
		t.Error("defaults went over what is written")
	}
}

func TestDefaults(t *testing.T) {
	p, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml", header+`after: [y]
gates:
  - soak: {for: 1h}
  - window: {opens: "0 9 * * *", for: 15h}
  - approval: {}
  - check: {url: "http://localhost/"}
  - metric: {prometheus: "http://localhost/", query: up, above: 0}
  - {name: second, window: {opens: "0 19 * * *", for: 5h}}
  - window: {opens: "0 21 * * *", for: 3h}
  - window: {opens: "0 23 * * *", for: 1h}
`), "x")
	if p == nil || len(faults) > 0 {
		t.Fatalf("faults:\n%s", joinFaults(faults))
	}
	g := p.Gates
	if p.Name != "x" || p.Promote != PromoteAuto || p.Advance != AdvanceSettled || p.People != PeopleBound ||
		p.OnFailure != OnFailureRollback || p.Rollout.Stall != 30*time.Minute {
		t.Errorf("channel: %+v", p)
	}
	if g[0].Soak.Cells != 1 || *g[0].Soak.Percent != 100 || g[1].Window.Zone != "UTC" || g[2].Approval.Count != 1 ||
		g[3].Check.ValidFor != 5*time.Minute || g[3].Check.Timeout != 10*time.Second ||
		g[4].Metric.ValidFor != 5*time.Minute || g[4].Metric.Timeout != 10*time.Second {
		t.Errorf("gates: %+v", g)
	}
	if g[1].ID != "window" || g[5].ID != "second" || g[6].ID != "window-2" || g[7].ID != "window-3" {
		t.Errorf("IDs: %s, %s, %s, %s", g[1].ID, g[5].ID, g[6].ID, g[7].ID)
	}
}

// Mistakes between files. Each has a fault, and only the channels concerned have no policy (R6).
func TestLoadFaults(t *testing.T) {
	const good = "channels/good/channel.yaml"
	after := func(up string) string { return header + "after: [" + up + "]\n" }
	approval := func(text string) string { return header + "gates:\n  - approval: " + text + "\n" }
	for _, tt := range []struct {
		name  string
		fsys  fstest.MapFS
		valid string // the channels with a policy
		want  string
	}{
		{"fault 44: circle", repositoryFS(
			"channels/a/channel.yaml", after("good, c"), "channels/b/channel.yaml", after("a"),
			"channels/c/channel.yaml", after("b"), "channels/d/channel.yaml", after("c")),
			"d good", `channels/a/channel.yaml:3: channels come after each other in a circle: a after c after b after a
channels/b/channel.yaml:3: channels come after each other in a circle: b after a after c after b
channels/c/channel.yaml:3: channels come after each other in a circle: c after b after a after c`},
		{"fault 44: after what does not exist", repositoryFS("channels/a/channel.yaml", after("stagin")), "good",
			`channels/a/channel.yaml:3: there is no channel "stagin"`},
		{"after an invalid channel", repositoryFS("channels/a/channel.yaml", header+"x: y\n", "channels/b/channel.yaml",
			after("a")), "b good",
			`channels/a/channel.yaml:3: unknown field "x"; there are: apiVersion, kind, description, after, promote, advance, settleWithin, prereleases, floor, people, gates, freezes, rollout, maintenance, onFailure`},
		{"no policy", repositoryFS("channels/a/head.yaml", "release: 1.0.0\n"), "good",
			"channels/a/channel.yaml: is missing: a channel needs a policy"},
		{"a folder that can't be a channel", repositoryFS("channels/A_b/channel.yaml", header), "good",
			`channels/A_b/channel.yaml:1: "A_b" can't name a channel: use small letters, digits and hyphens, at most 63`},
		{"R22: nobody has the role", repositoryFS("channels/a/channel.yaml", approval("{from: [release-managrs]}")),
			"good",
			`channels/a/channel.yaml:4: no person in sluice.yaml who can sign has the role "release-managrs"`},
		{"R22: too few", repositoryFS("channels/a/channel.yaml", approval("{count: 3, from: [release-managers]}")),
			"good",
			"channels/a/channel.yaml:4: needs 3 approvals, and sluice.yaml lists 2 who can sign for it"},
		{"R22: nobody can sign", repositoryFS("sluice.yaml", pipelineOK+"people: {ada: {email: a@b.example}}\n",
			"channels/a/channel.yaml", approval("{}")), "good",
			"channels/a/channel.yaml:4: needs 1 approvals, and sluice.yaml lists 0 who can sign for it"},
		{"R22: authors are trusted", repositoryFS("sluice.yaml",
			pipelineOK+"trustAuthors: true\npeople: {ada: {email: a@b.example}}\n", "channels/a/channel.yaml",
			approval("{}")), "a good", ""},
		{"a hold that can't be read holds", repositoryFS("channels/a/channel.yaml", header, "channels/a/holds/x.yaml",
			"reson: y\n"), "good",
			`channels/a/holds/x.yaml:1: reason is required
channels/a/holds/x.yaml:1: unknown field "reson"; did you mean "reason"?`},
		{"a hold of no cells holds", repositoryFS("channels/a/channel.yaml", header, "channels/a/holds/x.yaml",
			"reason: y\ncells: []\n"), "good",
			"channels/a/holds/x.yaml:2: cells is empty: give it a value, or leave it out"},
		{"a hold of what is no cell's name", repositoryFS("channels/a/channel.yaml", header, "channels/a/holds/x.yaml",
			"reason: y\ncells: [Acme]\n"), "good",
			`channels/a/holds/x.yaml:2: "Acme" can't be a cell's name`},
		{"a skip that can't be read skips nothing, and stops nothing",
			repositoryFS("channels/a/channel.yaml", header, "channels/a/skips/next.yaml", "wave: 2\nreason: y\n",
				"channels/a/skips/7.yaml", "wave: 1\n"), "a good",
			`channels/a/skips/7.yaml:1: reason is required
channels/a/skips/7.yaml:1: wave must be at least 2, not 1
channels/a/skips/next.yaml:1: the file must be named after the sequence of a head: 42.yaml`},
		{"a hold with another ending holds", repositoryFS("channels/a/channel.yaml", header, "channels/a/holds/x.yml",
			"reason: y\n"), "good", "channels/a/holds/x.yml: must end in .yaml"},
		{"R17: debt that can't be read binds", repositoryFS("channels/a/channel.yaml", header,
			"channels/a/hotfixes/next.yaml", "digest: "+digest+"\nreason: x\nexpiry: 2026-12-01T00:00:00Z\n"), "good",
			`channels/a/hotfixes/next.yaml:1: the file must be named after a release: "next" is not a version ([v]N.N.N[-pre]): it needs three numbers`},
		{"an approval that can't be read counts for nothing",
			repositoryFS("channels/a/channel.yaml", header, "channels/a/approvals/1.0.0/ada.yaml", "digest: sha256:1\n",
				"channels/a/approvals/1.0/ada.yaml", "digest: "+digest+"\n", "channels/a/approvals/1.0.0/zoe.yaml",
				"digest: "+digest+"\n"), "a good",
			`channels/a/approvals/1.0: "1.0" is not a version ([v]N.N.N[-pre]): it needs three numbers
channels/a/approvals/1.0.0/ada.yaml:1: digest: "sha256:1" is not a digest: it needs sha256: and 64 lower-case hex digits
channels/a/approvals/1.0.0/zoe.yaml: warning: does not count: sluice.yaml does not list zoe in people`},
		{"R1: a head that can't be read is a request without meaning",
			repositoryFS("channels/a/channel.yaml", header, "channels/a/head.yaml", "releas: 1.0.0\n"), "a good",
			`channels/a/head.yaml:1: release is required
channels/a/head.yaml:1: unknown field "releas"; did you mean "release"?`},
		{"files that nobody reads", repositoryFS("channels/README.md", "", "channels/a/channel.yaml", header,
			"channels/a/notes.txt", "", "channels/a/holds/x/y.yaml", "", "channels/a/approvals/x.yaml", ""), "a good",
			`channels/README.md: warning: is not read: nothing here has this name
channels/a/approvals/x.yaml: warning: is not read: nothing here has this name
channels/a/holds/x: warning: is not read: nothing here has this name
channels/a/notes.txt: warning: is not read: nothing here has this name`},
		{"a quarantine of no channels stops", repositoryFS("quarantine/1.0.0.yaml",
			"digest: "+digest+"\nreason: x\nchannels: []\n"),
			"good", "quarantine/1.0.0.yaml:3: channels is empty: give it a value, or leave it out"},
		{"a quarantine of a channel that is not", repositoryFS("quarantine/1.0.0.yaml",
			"digest: "+digest+"\nreason: x\nchannels: [a]\n"),
			"good", `quarantine/1.0.0.yaml: there is no channel "a"; it names no other, ` +
				"so it stops the release everywhere: correct channels"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.fsys[good] = &fstest.MapFile{Data: []byte(header)}
			if tt.fsys["sluice.yaml"] == nil {
				tt.fsys["sluice.yaml"] = &fstest.MapFile{Data: []byte(pipelineWithPeople(t))}
			}
			set, faults := Load(nil, tt.fsys)
			if got := joinFaults(faults); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			var valid []string
			for name, s := range set.Channels {
				if s.Policy != nil {
					valid = append(valid, name)
				}
				if (s.Policy == nil) != manifest.Fatal(s.Faults) {
					t.Errorf("%s: policy %v with faults %v", name, s.Policy, s.Faults)
				}
			}
			slices.Sort(valid)
			if got := strings.Join(valid, " "); got != tt.valid {
				t.Errorf("valid: %s, want %s", got, tt.valid)
			}
		})
	}
}

// R21: a mistyped quarantine must not mean that there is none.
func TestQuarantineThatCanNotBeRead(t *testing.T) {
	set, faults := Load(nil, repositoryFS("sluice.yaml", pipelineOK, "quarantine/2026.11.2.yaml",
		"digest: "+digest+"\nreason: x\nchanels: [a]\n", "quarantine/1.0.0.yml", ""))
	if len(faults) != 2 || len(set.Quarantines) != 2 {
		t.Fatalf("%s\n%+v", joinFaults(faults), set.Quarantines)
	}
	for i, release := range []string{"1.0.0", "2026.11.2"} {
		if q := set.Quarantines[i]; !q.Stops("any", release, digest) || q.Stops("any", "2026.11.3", digest) {
			t.Errorf("%+v", q)
		}
	}
}

// R6, R21: one for channels none of which is there stops the release everywhere; one of several may be wrong.
func TestQuarantineForNoChannel(t *testing.T) {
	const everywhere = "; it names no other, so it stops the release everywhere: correct channels"
	for channels, want := range map[string]string{
		"[dedicatd]":       `quarantine/1.0.0.yaml: there is no channel "dedicatd"` + everywhere,
		`[""]`:             `quarantine/1.0.0.yaml: there is no channel ""` + everywhere,
		"[dedicatd, good]": `quarantine/1.0.0.yaml: warning: there is no channel "dedicatd"`,
	} {
		set, faults := Load(nil, repositoryFS("sluice.yaml", pipelineOK, "channels/good/channel.yaml", header,
			"quarantine/1.0.0.yaml", "digest: "+digest+"\nreason: x\nchannels: "+channels+"\n"))
		if got := joinFaults(faults); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", channels, got, want)
		}
		q := set.Quarantines[0]
		if !q.Stops("good", "1.0.0", digest) ||
			q.Stops("dedicated", "1.0.0", digest) == strings.Contains(channels, "good") {
			t.Errorf("%s: %+v", channels, q)
		}
	}
}

func TestWhenAsText(t *testing.T) {
	p, faults := ParsePolicy(nil, repositoryFS("channels/x/channel.yaml",
		header+"gates:\n  - when: cells.healthy >= 10\n"), "x")
	if p == nil {
		t.Fatal(joinFaults(faults))
	}
	asJSON, err := json.Marshal(p.Gates[0])
	if want := `{"when":"cells.healthy \u003e= 10"}`; err != nil || string(asJSON) != want {
		t.Errorf("JSON: got %s, %v, want %s", asJSON, err, want)
	}
	asYAML, err := yaml.Marshal(map[string]*When{"when": p.Gates[0].When})
	if want := "when: cells.healthy >= 10\n"; err != nil || string(asYAML) != want {
		t.Errorf("YAML: got %s, %v, want %s", asYAML, err, want)
	}
}

func FuzzChannel(f *testing.F) {
	f.Add([]byte(header))
	f.Add([]byte(designExample))
	f.Add([]byte(header + "gates: [{window: {opens: \"TZ=\", for: 1h}}, {when: \"[[[[\"}, null]\nafter: [x, x]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := fstest.MapFS{"sluice.yaml": {Data: []byte(pipelineOK)}, "channels/x/channel.yaml": {Data: data}}
		set, faults := Load(nil, fsys)
		p := set.Channels["x"].Policy
		if (p == nil) != manifest.Fatal(faults) {
			t.Fatalf("policy %v with\n%s", p, joinFaults(faults))
		}
		for _, fault := range faults {
			if fault.File == "" || fault.Message == "" || strings.Contains(fault.Message, "\n") {
				t.Fatalf("%#v", fault)
			}
		}
		if p == nil {
			return
		}
		now := time.Unix(1_800_000_000, 0)
		JudgeFreezes(p.Freezes, now)
		for _, g := range p.Gates {
			switch {
			case g.ID == "":
				t.Fatalf("a gate without an ID: %+v", g)
			case g.AnyWindow() != nil:
				p.JudgeWindows(&g, now)
			case g.When != nil:
				g.When.Judge(WhenInput{})
			case g.Soak != nil:
				g.Soak.Judge("up", []Sample{{Counts: true}})
			}
		}
	})
}

func BenchmarkLoad100(b *testing.B) {
	fsys := repositoryFS("sluice.yaml", pipelineWithPeople(b), "channels/staging/channel.yaml", header)
	for i := range 100 {
		dir := fmt.Sprintf("channels/dedicated-%d/", i)
		fsys[dir+"channel.yaml"] = &fstest.MapFile{Data: []byte(designExample)}
		fsys[dir+"head.yaml"] = &fstest.MapFile{Data: []byte("release: 2026.11.2\ndigest: " + digest +
			"\nsequence: 41\n")}
	}
	for b.Loop() {
		if _, faults := Load(nil, fsys); len(faults) > 0 {
			b.Fatal(joinFaults(faults))
		}
	}
}

// A policy's bounds of maintenances are checked, with file and line, and have defaults once one is given.
func TestMaintenancePolicy(t *testing.T) {
	load := func(text string) (*Channel, []manifest.Fault) {
		return ParsePolicy(nil, fstest.MapFS{"channels/staging/channel.yaml": &fstest.MapFile{
			Data: []byte("apiVersion: sluice/v1\nkind: Channel\n" + text)}}, "staging")
	}
	if p, faults := load(""); len(faults) > 0 || p.Maintenance != (maintenance.Policy{}) {
		t.Errorf("%+v %v", p, faults)
	}
	p, faults := load("maintenance: {lead: 5m, overdue: force}\n")
	want := maintenance.Policy{Lead: 5 * time.Minute, Drain: 2 * time.Minute, Overdue: maintenance.Force,
		Again: 15 * time.Minute, Maximum: 10 * time.Minute}
	if len(faults) > 0 || p.Maintenance != want {
		t.Errorf("%+v %v", p, faults)
	}
	for _, wrong := range []string{"lead: -1s", "maximum: 3h", "drain: 10m", "overdue: never", "again: 1ms",
		"until: 5m", "maximum: null"} {
		if _, faults := load("maintenance: {" + wrong + "}\n"); len(faults) != 1 || faults[0].Line != 3 {
			t.Errorf("%s: %v", wrong, faults)
		}
	}
}
