package trial

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

func cell(name, profile string, values map[string]any) *plan.Cell {
	return &plan.Cell{Cell: cells.Cell{Name: name, Profile: profile, Values: values}}
}

// A release is rendered once for each profile with each set of values; profiles without a cell have the defaults.
func TestVariants(t *testing.T) {
	r := &releases.Release{
		Profiles: map[string]string{"default": ".", "small": "small"},
		Parameters: map[string]releases.Parameter{
			"domain": {Type: "string", Required: true, Pattern: `[a-z]+(\.[a-z]+)+`},
			"key":    {Type: "string", Required: true, Owner: releases.OwnerCell},
			"n":      {Type: "integer", Default: 1},
		},
	}
	a := map[string]any{"domain": "a.example"}
	all := []*plan.Cell{
		cell("one", "", a), cell("two", "default", map[string]any{"domain": "a.example"}), cell("three", "", a),
		cell("bad", "", map[string]any{"domain": "a.example", "n": "x"}), cell("odd", "large", a),
		cell("none", "", nil),
	}
	variants, unfit, bare := Variants(r, true, all)
	var got []string
	for _, v := range variants {
		got = append(got, fmt.Sprint(v.Profile, v.Values, v.Own, v.Cells))
	}
	want := []string{
		"map[domain:a.example] map[key:sample] [one three]", "defaultmap[domain:a.example] map[key:sample] [two]",
		"smallmap[domain:sample.example] map[key:sample] []",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantUnfit := map[string][]string{"bad": {"n must be a number, not x"}, "odd": {"the release has no profile large"},
		"none": {"domain is required"}}
	if diff := cmp.Diff(wantUnfit, unfit); diff != "" || bare != nil {
		t.Error(diff, bare)
	}
	r.Parameters["domain"] = releases.Parameter{Type: "string", Required: true, Pattern: `x{40}`}
	if variants, _, bare := Variants(r, true, nil); len(variants) > 0 || len(bare) != 2 {
		t.Errorf("no value can be made up: %v %v", variants, bare)
	}
	small := &releases.Release{Profiles: map[string]string{"small": "small"}}
	for root, want := range map[bool]int{true: 2, false: 1} { // the folder itself is the profile of who names none
		if variants, _, bare := Variants(small, root, nil); len(variants) != want || bare != nil {
			t.Errorf("with a kustomization at the root (%v): %v %v", root, variants, bare)
		}
	}
}

func TestForeignHooks(t *testing.T) {
	got := foreignHooks(decodeObjects([]byte("[no, object]\n---\nkind: Odd\nmetadata: [x]\n---\n" +
		"kind: Job\nmetadata: {name: a, annotations: {helm.sh/hook: 'pre-upgrade'}}\n---\n" +
		"kind: Job\nmetadata: {name: b, annotations: {sluice/hook: before}}\n---\n" +
		"kind: Pod\nmetadata: {name: c, annotations: {argocd.argoproj.io/hook: Sync}}\n")))
	if want := []string{"Job a (helm.sh/hook)", "Pod c (argocd.argoproj.io/hook)"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

// Images without a digest are found wherever containers are, in custom resources too; text that looks like them is not.
func TestMovingImages(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	got := movingImages(decodeObjects([]byte(`[no, object]
---
kind: Deployment
spec: {template: {spec: {containers: [{image: a:1}, {image: a:1}, {image: "b` + digest + `"}], initContainers: [{image: c}]}}}
---
kind: CronJob
spec: {jobTemplate: {spec: {template: {spec: {ephemeralContainers: [{image: "d:2"}], volumes: [{image: {reference: e}}]}}}}}
---
kind: Prometheus
spec: {containers: [{name: x, image: f:latest}], image: "g` + digest + `"}
---
kind: ConfigMap
data: {containers: "image: h"}
containers: [{image: h}]
---
kind: CustomResourceDefinition
spec: {containers: [{image: i}]}
`)))
	if diff := cmp.Diff([]string{"a:1", "c", "d:2", "e", "f:latest"}, got); diff != "" {
		t.Error(diff)
	}
}

// The releases that a channel runs are checked, and the newest above the oldest of these.
func TestCurrent(t *testing.T) {
	d := &plan.Desired{Channels: map[string]*plan.Channel{}}
	add := func(n int, change func(*plan.Release)) {
		v, err := releases.ParseVersion(fmt.Sprintf("1.%d.0", n))
		if err != nil {
			t.Fatal(err)
		}
		r := &plan.Release{Loaded: true}
		r.Version, r.Digest = v, "sha256:x"
		if change != nil {
			change(r)
		}
		d.Versions = append(d.Versions, r)
	}
	for n := range 30 {
		add(n, nil)
	}
	add(30, func(r *plan.Release) { r.Faults = []releases.Fault{{Message: "was edited"}} })
	versions := func() (all []string) {
		for _, r := range current(d) {
			all = append(all, r.Version.String())
		}
		return all
	}
	if got := versions(); len(got) != maxCandidates || got[0] != "1.29.0" {
		t.Errorf("without a head: %v", got)
	}
	for name, head := range map[string]string{"staging": "1.25.0", "dedicated": "1.2.0"} {
		e := &plan.EffectiveHead{}
		e.Release = head
		d.Channels[name] = &plan.Channel{Effective: e}
	}
	if got := versions(); len(got) != maxCandidates+1 || got[len(got)-1] != "1.2.0" {
		t.Errorf("with heads: %v", got)
	}
}
