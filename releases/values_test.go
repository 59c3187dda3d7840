package releases_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

func withParameters(t *testing.T) *releases.Release {
	t.Helper()
	m := repositoryFS([]string{"1.0.0"}, map[string]string{"1.0.0/release.yaml": releaseYAML("1.0.0") + `parameters:
  domain: {type: string, required: true, pattern: "[a-z.]+"}
  replicas: {type: integer, default: 2, minimum: 1, maximum: 9}
  ratio: {type: number}
  debug: {type: boolean, default: false}
  size: {type: string, enum: [small, large]}
  token: {type: string, owner: cell, required: true}
  zone: {type: string, owner: cell, default: eu}
`})
	set, faults := releases.Load(nil, m, nil, nil)
	if manifest.Fatal(faults) {
		t.Fatal(faults)
	}
	return &set.Releases["1.0.0"].Release
}

func TestCheckValues(t *testing.T) {
	r := withParameters(t)
	for _, test := range []struct {
		name   string
		values map[string]any
		want   []string
	}{
		{"least", map[string]any{"domain": "a.b"}, nil},
		{"all", map[string]any{"domain": "a.b", "replicas": 3, "ratio": 0.5, "debug": true, "size": "small"}, nil},
		{"as JSON gives them", map[string]any{"domain": "a.b", "replicas": 3.0, "ratio": json.Number("1")}, nil},
		{"none", nil, []string{"domain is required"}},
		{"null", map[string]any{"domain": nil}, []string{"domain must be a string, not <nil>", "domain is required"}},
		{"wrong", map[string]any{"domain": "a.b ", "replicas": 10, "ratio": "x", "debug": "true", "size": "huge"},
			[]string{
				"debug must be true or false, not true", `domain must match [a-z.]+, and "a.b " does not`,
				"ratio must be a number, not x",
				"replicas must be at most 9, not 10", `size must be small or large, not "huge"`}},
		{"fraction", map[string]any{"domain": "a", "replicas": 2.5},
			[]string{"replicas must be a whole number, not 2.5"}},
		{"part of a match", map[string]any{"domain": "a\nB"},
			[]string{`domain must match [a-z.]+, and "a\nB" does not`}},
		{"unknown", map[string]any{"domain": "a", "domian": "b"},
			[]string{"domian is not a parameter of 1.0.0; there are: debug, domain, ratio, replicas, size, token, zone"}},
		{"the cell's (R13)", map[string]any{"domain": "a", "token": "x"},
			[]string{"token is set in the cell only: remove it here"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, releases.CheckValues(r, test.values)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := releases.CheckValues(&releases.Release{Version: parse(t, "1.0.0")},
		map[string]any{"a": 1}); len(got) != 1 || got[0] != "a is not a parameter of 1.0.0, which has none" {
		t.Error(got)
	}
}

func TestResolveValues(t *testing.T) {
	r := withParameters(t)
	got, err := releases.ResolveValues(r, map[string]any{"domain": "a.b", "replicas": 3.0, "ratio": 2},
		map[string]any{"token": "t", "replicas": 9, "later": 1})
	want := map[string]any{"domain": "a.b", "replicas": 3, "ratio": 2.0, "debug": false, "token": "t", "zone": "eu"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for want, in := range map[string][2]map[string]any{
		"token is required: set it in the agent's file of --values": {{"domain": "a"}, nil},
		"domain is required":                           {nil, {"token": "t", "domain": "from the cell"}},
		"token must be a string, not 1":                {{"domain": "a"}, {"token": 1}},
		"zone is set in the cell only: remove it here": {{"domain": "a", "zone": "us"}, {"token": "t"}},
	} {
		if got, err := releases.ResolveValues(r, in[0], in[1]); got != nil || err == nil || err.Error() != want {
			t.Errorf("%v, %v: want %s", got, err, want)
		}
	}
}
