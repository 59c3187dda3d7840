package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// flagWorld is a world with a flags repository: cells eu-1 in staging, acme and beta in dedicated, which evaluate
// flags.
type flagWorld struct {
	*world
	flags string // bare
}

// feature is in the world's second release, and newEditor belongs to it.
const (
	feature   = "workspace-classes"
	newEditor = "new-editor"
)

func newFlagWorld(t *testing.T) *flagWorld {
	t.Helper()
	w := newWorld(t, func(files map[string]string) {
		files["cells/beta/cell.yaml"] = files["cells/acme/cell.yaml"]
	})
	l := &flagWorld{world: w, flags: w.path("flags.git")}
	settings := "apiVersion: sluice/v1\nkind: Flags\ntrustAuthors: true\nsoak: 1s\npeople:\n" +
		"  grace: {email: grace@example.com}\n"
	_, err := gitrepo.Init(t.Context(), l.flags, gitrepo.InitOptions{
		Bare: true, Files: map[string][]byte{"sluice.yaml": []byte(settings)}, Message: "begin",
		Author: releases.Person{Name: "ada", Email: "ada@example.com"}, When: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server.args = append(w.server.args, "--flags-repo", l.flags)
	for _, name := range []string{"eu-1", "acme", "beta"} {
		w.addAgent(name, "--flags-listen", "unix://"+w.path(name+".f"))
	}
	return l
}

// runAs runs a verb as a person, and requires success.
func (l *flagWorld) runAs(who string, args ...string) string {
	l.t.Helper()
	c := exec.CommandContext(l.t.Context(), os.Getenv(binaryVariable), args...) //nolint:gosec // ours
	c.Env = append(l.env(), "GIT_AUTHOR_NAME="+who, "GIT_AUTHOR_EMAIL="+who+"@example.com",
		"SLUICE_FLAGS_REPO="+l.flags)
	out, err := c.CombinedOutput()
	if err != nil {
		l.t.Fatalf("sluice %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (l *flagWorld) cutFeature(version string) {
	l.t.Helper()
	files := map[string]string{}
	for name, data := range releaseFiles(version) {
		files[name] = string(data)
	}
	files["releases/"+version+"/release.yaml"] += "features: [" + feature + "]\n"
	l.pushFiles("cut "+version, files)
}

// setPin sets the release that a cell is pinned to; empty: none.
func (l *flagWorld) setPin(cell, release string) {
	l.t.Helper()
	text := "apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n"
	if release != "" {
		text += "pin: " + release + "\n"
	}
	l.pushFiles("pin "+cell, map[string]string{"cells/" + cell + "/cell.yaml": text})
}

// evaluateFlag evaluates the flag in a cell, by OFREP, for a caller who claims to be elsewhere (R36).
func (l *flagWorld) evaluateFlag(cell string) (value any, err error) {
	claims := `{"context": {"targetingKey": "u", "cell": "acme", "channel": "staging", "release": "1.1.0", ` +
		`"features": ["` + feature + `"], "$flagd": {"timestamp": 99999999999}}}`
	request, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost,
		"http://cell/ofrep/v1/evaluate/flags/"+newEditor, strings.NewReader(claims))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := socketClient(l.path(cell + ".f")).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Value any `json:"value"`
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Status, body)
	}
	return answer.Value, json.NewDecoder(bytes.NewReader(body)).Decode(&answer)
}

// flagValue returns evaluateFlag's value, or the error's text.
func (l *flagWorld) flagValue(cell string) any {
	value, err := l.evaluateFlag(cell)
	if err != nil {
		return err.Error()
	}
	return value
}

func (l *flagWorld) awaitValue(cell string, want bool) {
	l.t.Helper()
	l.eventually(func() (string, bool) {
		got := l.flagValue(cell)
		return fmt.Sprintf("%s is %v in %s, want %v", newEditor, got, cell, want), got == want
	})
}

// checkValueUntil fails if the flag ever has another value in a cell until end.
func (l *flagWorld) checkValueUntil(cell string, want bool, end time.Time) {
	l.t.Helper()
	for time.Now().Before(end) {
		got, err := l.evaluateFlag(cell)
		if time.Now().Before(end) && (err != nil || got != want) {
			l.t.Fatalf("%s is %v in %s, %s before it may change: %v", newEditor, got, cell, time.Until(end), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitStates waits until the announcement has these states in cells, as the cells report.
func (l *flagWorld) awaitStates(want map[string]flags.CellState) {
	l.t.Helper()
	l.eventually(func() (string, bool) {
		var s announce.Status
		err := l.getJSON("/v1/announcements/classes", &s)
		met := 0
		for _, c := range s.Channels {
			for _, cell := range c.Cells {
				if cell.Confirmed && want[cell.Cell] == cell.State {
					met++
				}
			}
		}
		return fmt.Sprintf("the announcement is %+v, want %v: %v", s.Channels, want, err), met == len(want)
	})
}

func (l *flagWorld) newestKill() (k view.FlagKill) {
	var d peopleapi.FlagDetail
	if err := l.getJSON("/v1/flags/"+newEditor, &d); err == nil && len(d.Kills) > 0 {
		k = d.Kills[len(d.Kills)-1]
	}
	return k
}

// deployFeature deploys 1.1.0, with the feature, to all cells but beta, which is pinned to 1.0.0, and defines the flag.
func (l *flagWorld) deployFeature() {
	l.t.Helper()
	l.startAll()
	l.cutRelease("1.0.0", "fine")
	l.awaitRelease("acme", "1.0.0")
	l.awaitRelease("beta", "1.0.0")
	l.setPin("beta", "1.0.0")
	l.runAs("ada", "flag", "set", newEditor, "--new", "--feature", feature)
	l.cutFeature("1.1.0")
	l.awaitRelease("acme", "1.1.0")
	l.awaitRelease("eu-1", "1.1.0")
}

// announceFeature announces the feature for an instant, with another person's approval.
func (l *flagWorld) announceFeature(at time.Time) {
	l.t.Helper()
	l.runAs("ada", "announce", "new", "classes", "--title", "Workspace classes", "--feature", feature, "--at",
		at.UTC().Format("2006-01-02 15:04:05"))
	l.runAs("grace", "announce", "approve", "classes")
}

// The life of a feature: deployed and off, on at the second of its announcement without a control plane, suspended by a
// rollback, on again with the release, killed. A cell without the release gets the feature with the release (invariant
// 9).
func TestFeatureTurnsOnWithItsAnnouncement(t *testing.T) {
	t.Parallel()
	l := newFlagWorld(t)
	l.deployFeature()
	l.awaitValue("acme", false) // deployed, but off
	l.awaitValue("eu-1", false)

	at := time.Now().Add(20 * time.Second).Truncate(time.Second)
	l.announceFeature(at)
	l.awaitValue("eu-1", true) // staging sees it early
	l.awaitStates(map[string]flags.CellState{"acme": flags.Armed, "beta": flags.Waiting, "eu-1": flags.On})
	if time.Until(at) < time.Second {
		t.Fatal("this machine is too slow for the story: it was armed too late")
	}
	l.server.kill() // no more messages to cells
	l.checkValueUntil("acme", false, at)
	l.awaitValue("acme", true)
	t.Logf("on %s after its time", time.Since(at))
	time.Sleep(time.Until(at.Add(time.Second)))
	if got := l.flagValue("acme"); got != true {
		t.Errorf("a second after its time it is %v in acme", got)
	}
	if got := l.flagValue("beta"); got != false { // fault 62: whatever the caller claims
		t.Errorf("it is %v in beta, which does not have the release", got)
	}

	l.server.start()
	l.awaitStates(map[string]flags.CellState{"acme": flags.On, "beta": flags.Waiting})
	l.eventually(func() (string, bool) {
		record := git(t, l.flags, "log", "-1", "--format=%s", "main", "--", "records/classes/dedicated.yaml")
		return "the publication is not recorded: " + record, strings.HasPrefix(record, "publish classes in dedicated")
	})
	if got := l.flagValue("beta"); got != false {
		t.Errorf("it is %v in beta, which does not have the release", got)
	}
	l.setPin("beta", "")
	l.awaitRelease("beta", "1.1.0")
	l.awaitValue("beta", true)

	if log := l.processLog("serve"); strings.Contains(log, "suspended/classes/") {
		t.Errorf("the log has a suspension, though no cell without the release had the flag on:\n%s", log)
	}

	// A rollback below the feature suspends it by itself; a release with the feature turns it on again.
	l.runAs("ada", "rollback", "dedicated", "--reason", "it is slow")
	l.awaitRelease("acme", "1.0.0")
	l.awaitValue("acme", false)
	l.awaitStates(map[string]flags.CellState{"acme": flags.Suspended})
	l.cutFeature("1.2.0")
	l.runAs("ada", "hold", "dedicated", "--lift")
	l.awaitRelease("acme", "1.2.0")
	l.awaitValue("acme", true)
	l.awaitStates(map[string]flags.CellState{"acme": flags.On})

	// A kill turns the flag off in connected cells, is unconfirmed by others, and turns the flag off there when they
	// reconnect.
	l.agents["beta"].stop()
	output := l.runAs("ada", "flag", "kill", newEditor, "--reason", "loses text", "--until", "1s")
	if !strings.Contains(output, "not confirmed: beta") {
		t.Errorf("the output does not list beta as unconfirmed:\n%s", output)
	}
	l.awaitValue("acme", false)
	l.eventually(func() (string, bool) {
		k := l.newestKill()
		return fmt.Sprintf("the kill is not committed, or not confirmed: %+v", k), k.Committed && k.Confirmed == 2
	})
	l.agents["beta"].start()
	l.awaitValue("beta", false)
	l.eventually(func() (string, bool) {
		k := l.newestKill()
		return fmt.Sprintf("beta is back, and has not confirmed it: %+v", k), k.Confirmed == 3 && k.Unconfirmed == 0 &&
			len(k.Offline) == 0
	})
	time.Sleep(1100 * time.Millisecond) // fault 63: the kill's end passed, and changed nothing
	if got := l.flagValue("acme"); got != false {
		t.Errorf("after the kill's end it is %v in acme", got)
	}
	l.runAs("ada", "flag", "unkill", newEditor, "--reason", "mended")
	l.awaitValue("acme", true)
	l.awaitValue("beta", true)
	l.checkSeparateHistories()
}

// A kill is in force in a connected cell within two seconds, as the product sees it (R43).
func TestKillIsQuick(t *testing.T) {
	t.Parallel()
	l := newFlagWorld(t)
	l.startAll()
	l.runAs("ada", "flag", "set", newEditor, "--new", "--default", "on", "--off", "off") // without a feature
	l.awaitValue("eu-1", true)
	begun := time.Now()
	response, err := l.request(http.MethodPost, "/v1/flags/"+newEditor+"/kill", []byte(`{"reason":"loses text"}`),
		http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		t.Fatalf("the kill is answered %s", response.Status)
	}
	l.awaitValue("eu-1", false)
	took := time.Since(begun)
	t.Logf("off %s after it was asked for", took)
	if took > 2*time.Second {
		t.Errorf("the kill took %s", took)
	}
}

// checkSeparateHistories checks that neither repository has a commit that belongs to the other.
func (l *flagWorld) checkSeparateHistories() {
	l.t.Helper()
	own := map[string][]string{
		l.repo:  {"sluice.yaml", ".gitattributes", "releases", "channels", "cells", "quarantine"},
		l.flags: {"sluice.yaml", "flags", "announcements", "approvals", "overrides", "heads", "records"},
	}
	for repo, folders := range own {
		allowed := map[string]bool{}
		for _, name := range folders {
			allowed[name] = true
		}
		for name := range strings.FieldsSeq(git(l.t, repo, "log", "--name-only", "--format=", "main")) {
			top, _, _ := strings.Cut(name, "/")
			if !allowed[top] {
				l.t.Errorf("%s has a commit of %s", repo, name)
			}
		}
	}
}

// Faults 33 and 61: a fault in the flags repository leaves the last valid flags in force, and blocks neither releases
// nor kills.
func TestFaultInTheFlagsRepository(t *testing.T) {
	t.Parallel()
	l := newFlagWorld(t)
	l.deployFeature()
	l.announceFeature(time.Now().Add(20 * time.Second)) // under load, cells need a while to be armed
	l.awaitValue("acme", true)

	clone := l.path("flags")
	git(t, l.dir, "clone", "-q", l.flags, clone)
	if err := os.WriteFile(clone+"/flags/slip.yaml", []byte("flags:\n  slip: {stat: ENABLED}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, clone, "add", "-A")
	git(t, clone, "commit", "-qm", "a slip")
	l.eventually(func() (string, bool) { // the engine commits there too
		git(t, clone, "pull", "-q", "--rebase", "origin", "main")
		out, err := tryGit(t.Context(), clone, "push", "-q", "origin", "HEAD:main")
		return fmt.Sprintf("the slip can't be pushed: %v: %s", err, out), err == nil
	})
	l.eventually(func() (string, bool) {
		var f peopleapi.Flags
		err := l.getJSON("/v1/flags", &f)
		return fmt.Sprintf("the fault is not said: %q, %v", f.Fault, err), strings.Contains(f.Fault,
			"flags/slip.yaml:2") && strings.HasSuffix(f.Fault, "All else of the tip is in force")
	})
	l.cutFeature("1.2.0")
	l.awaitRelease("acme", "1.2.0")
	if got := l.flagValue("acme"); got != true {
		t.Errorf("a fault elsewhere made the flag %v", got)
	}

	// The git host is gone as well: the kill is kept, told, and committed when it is back.
	if err := os.Rename(l.flags, l.flags+".away"); err != nil {
		t.Fatal(err)
	}
	l.runAs("ada", "flag", "kill", newEditor, "--reason", "loses text")
	l.awaitValue("acme", false)
	l.awaitValue("eu-1", false)
	if k := l.newestKill(); k.Committed {
		t.Errorf("the kill is committed to a repository that is away: %+v", k)
	}
	l.server.kill() // what was said to be kept is
	l.server.start()
	if err := os.Rename(l.flags+".away", l.flags); err != nil {
		t.Fatal(err)
	}
	l.eventually(func() (string, bool) {
		k := l.newestKill()
		return fmt.Sprintf("the kill is not committed: %+v", k), k.Committed
	})
	if got := l.flagValue("acme"); got != false {
		t.Errorf("killed, it is %v", got)
	}
	l.checkSeparateHistories()
}
