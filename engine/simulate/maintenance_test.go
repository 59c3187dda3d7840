package simulate

import (
	"strings"
	"testing"
	"time"
)

// An update that changes a marked component comes later by the policy's lead and drain, whether a release of the
// scenario says so or those of the repository differ; any other does not.
func TestMaintenanceTakesItsTime(t *testing.T) {
	const policyText = "maintenance: {lead: 3h, drain: 5m}\n"
	marked := func(version, image string) map[string]string {
		files := releaseFiles(version)
		files["releases/"+version+"/release.yaml"] += "components:\n  - {name: server, maintenance: true, image: " +
			"\"r.example/s@sha256:" + strings.Repeat(image, 64) + "\"}\n"
		return files
	}
	// arrives returns when 1.2.0 comes to the cell, after it was cut.
	arrives := func(more string, files ...map[string]string) time.Duration {
		t.Helper()
		in := repositoryOf(t, union(append(files, policy("staging", policyText))...))
		in.Scenario = scenarioOf(t, "cells: {add: {staging: 1}, hear: {min: 0s, max: 0s}, apply: {min: 1m, max: 1m}}\n"+
			"releases: [{at: 1d, version: 1.2.0"+more+"}]\n")
		for _, a := range runInput(t, in).Arrivals {
			if a.Release == "1.2.0" {
				return a.At.Sub(begin.Add(24 * time.Hour))
			}
		}
		t.Fatal("1.2.0 never came")
		return 0
	}
	plain := arrives("", releaseFiles("1.0.0"))
	for name, test := range map[string]struct {
		took time.Duration
		adds time.Duration
	}{
		"it says so":      {arrives(", maintenance: true", releaseFiles("1.0.0")), 3*time.Hour + 5*time.Minute},
		"the same images": {arrives("", marked("1.0.0", "a")), 0},
		"a different image": {arrives(", like: 0.9.0", marked("0.9.0", "b"), marked("1.0.0", "a")),
			3*time.Hour + 5*time.Minute},
	} {
		if added := test.took - plain; added.Round(time.Minute) != test.adds {
			t.Errorf("%s: it takes %s longer, want %s", name, added, test.adds)
		}
	}
}
