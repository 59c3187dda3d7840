package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/actions/desk"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// moments matches what differs between two commits of the same decision at two moments.
var moments = regexp.MustCompile(`\d{8}-\d{6}|\d{4}-\d\d-\d\dT[\d:]+Z|retry: [^\n]*`)

// Every form makes the commit that its command line makes, or is refused for the same reason.
func TestFormsAndVerbsMakeTheSameCommits(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	env := []string{"HOME=" + dir, "XDG_CACHE_HOME=" + in(".cache"), "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Kim",
		"GIT_AUTHOR_EMAIL=kim@example.com", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@example.com",
		"PATH=" + os.Getenv("PATH"), "SLUICE_REPO=" + in("releases"), "SLUICE_FLAGS_REPO=" + in("flags")}
	sluice := func(args ...string) (int, string) {
		cmd := exec.Command("sluice", args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for name, text := range map[string]string{"kustomization.yaml": "resources: [app.yaml]\n",
		"app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n"} {
		if err := errors.Join(os.MkdirAll(in("app"), 0o755), os.WriteFile(in("app/"+name), []byte(text),
			0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const prepare = `init --bare releases
flag init --bare flags
release cut 1.0.0 --from app
tick --data data
release cut 1.1.0 --from app
tick --data data
cell add acme --channel staging
cell add held --channel staging
cell edit held --pin 1.0.0 --paused them
flag set new-editor --new --feature classes
flag set killed --new --feature more
flag kill killed --reason x
announce new soon --title Soon --feature classes --in staging=ready --at 2999-01-01_10:00 --zone UTC
announce new later --title Later --feature more
announce hold later --reason x
hold staging --id h1 --reason x
rollout halt staging --reason x
freeze staging --until 48h --reason x
quarantine 1.0.0 --channel dedicated --reason x
hotfix 1.1.0 --to dedicated --reason x
promote 1.1.0 --to dedicated`
	for line := range strings.Lines(prepare) {
		args := strings.Fields(line)
		for i, a := range args {
			switch args[i] = strings.ReplaceAll(a, "_", " "); a {
			case "releases", "flags", "app", "data":
				args[i] = in(a)
			}
		}
		if code, said := sluice(args...); code != cli.ExitDone {
			t.Fatalf("sluice %v: %d: %s", args, code, said)
		}
	}
	samples := map[string]string{
		"promote": "release=1.0.0 channel=dedicated reason=why", "cancel-request": "channel=dedicated",
		"rollback": "channel=staging reason=why", "hold": "channel=staging cells=acme,held reason=why",
		"lift-hold": "channel=staging hold=h1", "hold-all": "reason=why", "lift-all": "reason=why",
		"freeze": "channel=dedicated from=1h until=2h reason=why", "lift-freeze": "channel=staging",
		"approve":       "release=1.1.0 channel=dedicated comment=why",
		"add-passkey":   "id=5TqGx0pS1f0m0pTn8p5g3w public-key=MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEig2ZLrpz6f77GZtYzid020f7qSCAxBGN83KYBtsFwwwZZw181JKq3FXCBNBgrrMcfgxMb+uL1gpFUKDmfh1CNg== origin=https://sluice.example:7600",
		"promote-flags": "channel=dedicated reason=why", "halt": "channel=dedicated reason=why",
		"resume": "channel=staging", "skip-wave": "channel=staging wave=2 reason=why",
		"hotfix":       "release=1.0.0 channel=dedicated for=3h override-freeze=yes reason=why",
		"close-hotfix": "release=1.1.0 channel=dedicated reason=why",
		"quarantine":   "release=1.1.0 channels=staging reason=why", "lift-quarantine": "release=1.0.0 reason=why",
		"retry": "cell=acme reason=why", "pin": "cell=acme release=1.0.0 reason=why", "unpin": "cell=held",
		"pause-cell": "cell=acme paused=why", "resume-cell": "cell=held", "move": "cell=acme channel=dedicated",
		"revoke": "cell=acme", "rename": "cell=acme to=acme-eu", "remove": "cell=acme",
		"notify": "cell=acme delivered=mail", "extend": "cell=acme until=72h reason=why",
		"exempt":        "cell=acme reason=why",
		"end-exemption": "cell=acme", "kill": "flag=new-editor until=48h reason=why",
		"unkill":            "flag=killed reason=why",
		"set-default":       "flag=new-editor default=on reason=why",
		"publish":           "announcement=soon at=2999-02-01_10:00 zone=UTC reason=why",
		"hold-announcement": "announcement=soon reason=why", "lift-announcement": "announcement=later",
		"cancel-announcement": "announcement=soon reason=why",
	}
	d := openDesk(t, dir)
	by := releases.Person{Name: "Kim", Email: "kim@example.com"}
	refused := 0
	for _, a := range actions.All() {
		if a.CommandOnly() || a.Undo {
			continue
		}
		v := actions.Values{}
		for pair := range strings.FieldsSeq(samples[a.Name]) {
			name, value, _ := strings.Cut(pair, "=")
			v[name] = strings.ReplaceAll(value, "_", " ")
		}
		if _, wrong := a.Parse(v.Query()); len(wrong) > 0 {
			t.Errorf("%s: the sample lacks %v", a.Name, wrong)
			continue
		}
		code, said := sluice(append(a.Args(v), "--dry-run", "-o", "json")...)
		p, err := d.Propose(t.Context(), desk.Request{Action: &a, Values: v, Shown: time.Now(), Author: by, By: "kim",
			From: "here"})
		if refusal := new(edits.Error); errors.As(err, &refusal) {
			if refused++; code == cli.ExitDone || !strings.Contains(said, moments.ReplaceAllString(refusal.Error(),
				"")) {
				t.Errorf("%s: the form is refused (%v), and the verb says %d: %s", a.Name, err, code, said)
			}
			continue
		}
		var verb struct {
			Message string
			Files   []filediff.File
		}
		if decoding := json.Unmarshal([]byte(said), &verb); err != nil || code != cli.ExitDone || decoding != nil {
			t.Errorf("%s: the form: %v; the verb: %d: %s", a.Name, err, code, said)
			continue
		}
		message, _, _ := strings.Cut(p.Message, "\n\nAsked-By: ")
		same := func(x, y string) bool {
			return moments.ReplaceAllString(x, "") == moments.ReplaceAllString(y, "")
		}
		if !same(message, verb.Message) || !slices.EqualFunc(filediff.Compare(p.Before, p.After()), verb.Files,
			func(x, y filediff.File) bool { return same(x.File, y.File) && x.Kind == y.Kind && same(x.Diff, y.Diff) }) {
			t.Errorf("%s: the form makes\n%s\n%v\nand %s\n%s", a.Name, message, filediff.Compare(p.Before, p.After()),
				a.Command(v), said)
		}
	}
	if refused > 8 {
		t.Errorf("%d samples are refused: they compare no commit", refused)
	}
}

// openDesk returns a desk of the repositories in a folder, as serve has one.
func openDesk(t *testing.T, dir string) *desk.Desk {
	t.Helper()
	open := func(name string, layout gitrepo.Layout) *gitrepo.Repo {
		repo, err := gitrepo.Open(t.Context(), filepath.Join(dir, name),
			gitrepo.Options{Mirror: filepath.Join(t.TempDir(), name), Layout: layout})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = repo.Close() })
		return repo
	}
	as := func(r *gitrepo.Repo) func(releases.Person) edits.Repository {
		return func(author releases.Person) edits.Repository { return r.CommitterAs(author, nil) }
	}
	r, f := open("releases", gitrepo.ReleaseLayout), open("flags", gitrepo.FlagsLayout)
	loader := &engine.Loader{Repo: r}
	return &desk.Desk{
		Releases: &desk.Branch[*edits.Releases]{History: r, Committer: as(r), Read: func(ctx context.Context) (
			*edits.Releases, error) {
			tip, err := r.Fetch(ctx)
			if err != nil {
				return nil, err
			}
			files, err := r.FS(tip)
			if err != nil {
				return nil, err
			}
			desired, err := loader.Load(ctx, tip)
			return &edits.Releases{Files: files, Desired: desired}, err
		}},
		Flags: &desk.Branch[*edits.Flags]{History: f, Committer: as(f), Read: func(ctx context.Context) (*edits.Flags,
			error) {
			tip, err := f.Fetch(ctx)
			if err != nil {
				return nil, err
			}
			files, err := f.FS(tip)
			return &edits.Flags{Commit: tip, Files: files, Tree: repository.Load(nil, files), Open: f.FS,
				Contains: func(string) bool { return true }}, err
		}},
	}
}
