package tuf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
)

// served is a trust.Bundle as judge.mjs reads it: roots by version.
type served struct {
	Roots     map[string][]byte `json:"roots"`
	Timestamp []byte            `json:"timestamp"`
	Snapshot  []byte            `json:"snapshot"`
	Roles     map[string][]byte `json:"roles"`
}

type repository struct {
	Root    []byte   `json:"root"`
	Told    []served `json:"told"`
	Targets []string `json:"targets"`
}

// T1: tuf-js, which shares no code with ours, gives the same verdict on every repository; where ours asks for more, it
// refuses.
func TestSameVerdicts(t *testing.T) {
	corpus, err := trusttest.Corpus(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(corpus) < 100 {
		t.Errorf("the corpus has only %d repositories", len(corpus))
	}
	var asked []repository
	for _, c := range corpus {
		r := repository{Root: c.Root,
			Targets: []string{"releases/" + trusttest.Version, trust.HeadTarget(trusttest.Channel)}}
		if c.Flags {
			r.Targets = append(r.Targets, trusttest.FlagTarget())
		}
		for _, b := range c.Told {
			r.Told = append(r.Told, served{byPlace(b.Roots), b.Timestamp, b.Snapshot, b.Roles})
		}
		asked = append(asked, r)
	}
	verdicts := askTUFJS(t, asked)
	same, stricter := 0, 0
	for i, c := range corpus {
		ours, theirs := judge(t, c), verdicts[i]
		switch {
		case c.Stricter && ours != nil:
			stricter++
		case (ours == nil) == (theirs == ""):
			same++
		default:
			t.Errorf("%s: ours %v, tuf-js %q", c.Name, ours, theirs)
		}
		if c.Valid != (theirs == "") {
			t.Errorf("%s: a client of TUF should take it: %v; tuf-js: %q", c.Name, c.Valid, theirs)
		}
	}
	t.Logf("%d repositories: the same verdict on %d, a stricter one on %d", len(corpus), same, stricter)
}

// byPlace names roots as the files of a repository are named: by their place, whatever is inside.
func byPlace(roots [][]byte) map[string][]byte {
	all := map[string][]byte{}
	for i, root := range roots {
		all[fmt.Sprint(i+1)] = root
	}
	return all
}

// judge does what a cell does before it renders.
func judge(t *testing.T, c trusttest.Case) error {
	t.Helper()
	v, err := releases.ParseVersion(trusttest.Version)
	if err != nil {
		t.Fatal(err)
	}
	s, now := trust.State{Root: c.Root}, time.Now()
	for _, b := range c.Told {
		var trusted *trust.Trusted
		trusted, s, err = trust.Verify(s, b, trusttest.Channel, now)
		if err == nil {
			err = trusted.Check(v, trusttest.Digest())
		}
		if err == nil && trusted.Head != trusttest.Digest() {
			err = fmt.Errorf("the head is %s", trusted.Head)
		}
		if err == nil {
			err = c.Allows(trusted)
		}
	}
	return err
}

// askTUFJS returns what tuf-js has against each repository; empty: nothing.
func askTUFJS(t *testing.T, asked []repository) (verdicts []string) {
	t.Helper()
	installNode(t)
	install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = "js"
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	input, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "judge.mjs")
	node.Dir, node.Stdin, node.Stderr = "js", bytes.NewReader(input), os.Stderr
	output, err := node.Output()
	if err != nil {
		t.Fatalf("judge.mjs: %v", err)
	}
	if err := json.Unmarshal(output, &verdicts); err != nil || len(verdicts) != len(asked) {
		t.Fatalf("judge.mjs: %d verdicts on %d repositories: %v", len(verdicts), len(asked), err)
	}
	return verdicts
}

// installNode installs Node where it may.
func installNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err == nil {
		return
	}
	for _, args := range []string{"update -q", "install -y -q --no-install-recommends nodejs npm"} {
		run := exec.CommandContext(t.Context(), "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"},
			strings.Fields(args)...)...)
		run.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("this test needs Node and npm, and they can't be installed here: %v\n%s", err, out)
		}
	}
}
