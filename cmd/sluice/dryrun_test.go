package main

import (
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// commitNothing are the verbs that make no commit in the caller's name. All others have --dry-run.
var commitNothing = []string{
	"release list", "release show", "render", "validate", "rollout status", // read only
	"status", "plan", "simulate", "why", "verify", "wait", "log", "events", "diff", "cell list", "cell show",
	"flag list",
	"flag show", "flag eval", "flag lint", "flag stale", "announce list", "announce show", "token list",
	"session list", "infra show", "infra status", "infra validate", "infra prepare",
	"audit list", "audit export", "audit verify",
	"notices list", "notices test", // the last one sends
	"engine-key show", "trust status", "trust verify", "version",
	"cell rotate", "token add", "token remove", "session end", "login", "logout", // change the store alone
	"cell owner", "cell pause", "cell unpause", "cell pin", "cell unpin", "cell window list", "cell window add",
	"cell window remove", "cell approval require", "cell approval off", "cell approve", "cell diff", "cell verify",
	"cell feature hold", "cell feature release", "cell clock show", "cell clock reset", "cell flags",
	"cell maintenance show", "cell maintenance begin", "cell maintenance end", // the owner's, on the cell's machine
	"cell export list", "cell export show", "cell export approve", "cell export hold", "cell export drop",
	"cell export off", "cell ui",
	"cell debug list", "cell debug show", "cell debug approve", "cell debug deny", "cell debug watch",
	"cell debug stop",
	"debug request", "debug connect", "debug list", "debug show", "debug withdraw", "debug verify",
	"serve", "tick", "agent manifest", "agent preflight", "agent guard", "backup", "restore",
	"standby-key move",
	"standby-key replace", "standby-key promote", "demo product",
	"supervise", "node", "enclose", // programs: sluice plan shows what the engine would do
}

// Each verb that commits has --dry-run; a new verb needs it, or a place in the list above.
func TestVerbsThatCommitHaveDryRun(t *testing.T) {
	left := map[string]bool{}
	for _, path := range commitNothing {
		left[path] = true
	}
	for path, cmd := range leaves(t) {
		dry := cmd.Flags().Lookup("dry-run") != nil
		if dry == slices.Contains(commitNothing, path) {
			t.Errorf("sluice %s: has --dry-run: %v; a verb has it, or is one that commits nothing", path, dry)
		}
		delete(left, path)
	}
	for path := range left {
		t.Errorf("sluice %s is listed, and is no verb", path)
	}
}

// Each flag that takes a length of time takes it in days too, as instants and scenarios do.
func TestLengthsOfTimeMayBeInDays(t *testing.T) {
	checked := 0
	for _, cmd := range leaves(t) {
		for at := cmd; at != nil; at = at.Parent() {
			at.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if f.Value.Type() != "duration" {
					return
				}
				checked++
				if err := f.Value.Set("2d12h"); err != nil || f.Value.String() != "60h" {
					t.Errorf("%s --%s 2d12h: %v, %v", at.CommandPath(), f.Name, f.Value, err)
				}
			})
		}
	}
	if checked < 20 {
		t.Errorf("found %d flags that take a length of time", checked)
	}
}

// What goes on until it is stopped collects its garbage as Go does by itself; whatever ends soon is lazy with that.
func TestVerbsThatKeepRunning(t *testing.T) {
	for line, keeps := range map[string]bool{
		"serve": true, "agent": true, "agent guard": true, "node": true, "supervise": true, "cell ui": true,
		"demo":         true,
		"demo product": true, "status --watch": true, "rollout status -w": true, "events -f": true,
		"status": false, "events": false, "rollout status": false, "status --watch=false": false,
		"agent manifest": false,
		"validate":       false, "cell list": false, "tick": false,
	} {
		cmd, rest, err := root(cli.NewApp(nil, nil, io.Discard, io.Discard)).Find(strings.Fields(line))
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil || len(cmd.Flags().Args()) > 0 || cli.KeepsRunning(cmd) != keeps {
			t.Errorf("sluice %s: keeps running: %v, %v", line, !keeps, err)
		}
	}
}

// leaves returns the verbs without subcommands, by their path below sluice.
func leaves(t *testing.T) map[string]*cobra.Command {
	t.Helper()
	all := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		_, path, _ := strings.Cut(cmd.CommandPath(), " ")
		if !cmd.HasSubCommands() && path != "completion" && !strings.HasPrefix(path, "completion ") {
			all[path] = cmd
		}
		for _, below := range cmd.Commands() {
			walk(below)
		}
	}
	walk(root(cli.NewApp(os.Environ(), nil, io.Discard, io.Discard)))
	return all
}

// With --dry-run, each verb shows a commit or says why there would be none, and changes no file at all.
func TestDryRunChangesNothing(t *testing.T) {
	dir := t.TempDir()
	env := []string{"HOME=" + dir, "XDG_CACHE_HOME=" + filepath.Join(dir, ".cache"), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@example.com", "GIT_COMMITTER_NAME=Kim",
		"GIT_COMMITTER_EMAIL=kim@example.com", "PATH=" + os.Getenv("PATH")}
	in := func(name string) string { return filepath.Join(dir, name) }
	sluice := func(args ...string) (int, string) {
		cmd := exec.Command("sluice", args...) // the binary itself: it starts children
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	must := func(args ...string) {
		t.Helper()
		if code, said := sluice(args...); code != cli.ExitDone {
			t.Fatalf("sluice %v: exit code %d: %s", args, code, said)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(in(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("app/kustomization.yaml", "resources: [app.yaml]\n")
	write("app/app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n")
	r, f, data := in("releases"), in("flags"), in("data")
	must("init", "--bare", r)
	must("flag", "init", "--bare", f)
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		must("release", "cut", v, "--from", in("app"), "--repo", r)
		must("tick", "--repo", r, "--data", data)
	}
	must("cell", "add", "acme", "--channel", "staging", "--repo", r)
	must("flag", "set", "new-editor", "--new", "--feature", "classes", "--flags-repo", f)
	must("flag", "set", "more-editor", "--new", "--feature", "more", "--flags-repo", f)
	must("announce", "new", "soon", "--title", "Soon", "--feature", "classes", "--in", "staging=ready", "--at",
		"2999-01-01 10:00", "--zone", "UTC", "--flags-repo", f)
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGy"
	onRelease, onFlags := []string{"--repo", r}, []string{"--flags-repo", f}
	cases := map[string][]string{
		"init":         {in("new")},
		"release cut":  append([]string{"2.0.0", "--from", in("app"), "--wait", "staging"}, onRelease...),
		"channel add":  append([]string{"lab"}, onRelease...),
		"promote":      append([]string{"1.2.0", "--to", "dedicated", "--wait"}, onRelease...),
		"hold":         append([]string{"--all", "--reason", "x"}, onRelease...),
		"freeze":       append([]string{"staging", "--until", "48h", "--reason", "x"}, onRelease...),
		"rollback":     append([]string{"staging", "--reason", "x"}, onRelease...),
		"quarantine":   append([]string{"1.0.0", "--reason", "x"}, onRelease...),
		"hotfix":       append([]string{"1.1.0", "--to", "dedicated", "--reason", "x"}, onRelease...),
		"rollout halt": append([]string{"staging", "--reason", "x"}, onRelease...),
		"cell add":     append([]string{"new", "--channel", "staging", "--data", data}, onRelease...),
		"cell bootstrap": append([]string{"new", "--channel", "staging", "--target", "host", "--out", in("out")},
			onRelease...),
		"cell edit":         append([]string{"acme", "--paused", "x"}, onRelease...),
		"cell move":         append([]string{"acme", "--to", "dedicated"}, onRelease...),
		"cell rename":       append([]string{"acme", "acme-eu"}, onRelease...),
		"cell remove":       append([]string{"acme"}, onRelease...),
		"cell retry":        append([]string{"acme"}, onRelease...),
		"flag init":         {in("newflags")},
		"flag set":          append([]string{"new-editor", "--default", "off"}, onFlags...),
		"flag kill":         append([]string{"new-editor", "--reason", "x", "--server", "unix:///nowhere"}, onFlags...),
		"announce new":      append([]string{"more", "--title", "More", "--feature", "more"}, onFlags...),
		"announce cancel":   append([]string{"soon", "--reason", "x"}, onFlags...),
		"announce hold":     append([]string{"soon", "--reason", "x"}, onFlags...),
		"announce publish":  append([]string{"soon", "--now"}, onFlags...),
		"engine-key rotate": append([]string{"--data", data}, onRelease...),
		"engine-key add":    append([]string{key, "--data", data}, onRelease...),
	}
	// These have nothing to do here, and say so; that they change nothing counts all the same.
	refused := map[string][]string{
		"release prune": onRelease,
		"infra notify":  append([]string{"acme", "--delivered", "by mail"}, onRelease...),
		"infra extend":  append([]string{"acme", "--until", "2999-01-01", "--reason", "x"}, onRelease...),
		"infra exempt":  append([]string{"acme", "--reason", "x"}, onRelease...),
		"approve":       append([]string{"dedicated", "1.0.0"}, onRelease...),
		"passkey add": append([]string{"--id", "YQ", "--public-key", "YQ", "--origin", "https://sluice.example"},
			onRelease...),
		"rollout resume":       append([]string{"staging"}, onRelease...),
		"rollout skip-wave":    append([]string{"staging", "--reason", "x"}, onRelease...),
		"cell revoke":          append([]string{"acme", "--server", "unix:///nowhere"}, onRelease...),
		"flag unkill":          append([]string{"new-editor", "--reason", "x"}, onFlags...),
		"flag promote":         append([]string{"dedicated"}, onFlags...),
		"announce approve":     append([]string{"soon"}, onFlags...),
		"engine-key remove":    append([]string{key, "--data", data}, onRelease...),
		"trust init":           append([]string{"--signer", "ada", "--signer", "grace"}, onRelease...),
		"trust sign":           onRelease,
		"trust revoke":         append([]string{"1.0.0", "--reason", "x"}, onRelease...),
		"trust rotate":         onRelease,
		"trust support add":    append([]string{"ada"}, onRelease...),
		"trust support remove": append([]string{"ada"}, onRelease...),
	}
	before := snapshot(t, dir)
	for path := range leaves(t) {
		if cases[path] == nil && refused[path] == nil && !slices.Contains(commitNothing, path) {
			t.Errorf("sluice %s --dry-run is not tried", path)
		}
	}
	try := func(path string, args []string) (int, string) {
		code, said := sluice(slices.Concat(strings.Fields(path), args, []string{"--dry-run"})...)
		if after := snapshot(t, dir); !maps.Equal(before, after) {
			t.Fatalf("sluice %s --dry-run changed files; it said %s", path, said)
		}
		return code, said
	}
	for _, path := range slices.Sorted(maps.Keys(cases)) {
		code, said := try(path, cases[path])
		if code != cli.ExitDone || !strings.Contains(said, "would commit, as Kim") {
			t.Errorf("sluice %s --dry-run: exit code %d: %s", path, code, said)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(refused)) {
		if code, said := try(path, refused[path]); code == cli.ExitDone && strings.Contains(said, ": commit ") {
			t.Errorf("sluice %s --dry-run: %s", path, said)
		}
	}
	if code, said := sluice("cell", "retry", "--dir", dir, "--dry-run"); code != cli.ExitUsage {
		t.Errorf("the owner's retry has no commit to show: exit code %d: %s", code, said)
	}
}

// snapshot returns the folders' contents, without caches and what reading a store leaves beside it: refs for a git
// repository, else the files.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out[e.Name()] = ""
	}
	delete(out, ".cache")
	for _, repo := range []string{"releases", "flags"} {
		refs, err := exec.Command("git", "-C", filepath.Join(dir, repo), "for-each-ref").Output()
		if err != nil {
			t.Fatal(err)
		}
		out[repo] = string(refs)
	}
	keys, err := os.ReadDir(filepath.Join(dir, "data", "tls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range keys {
		text, err := os.ReadFile(filepath.Join(dir, "data", "tls", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out["tls/"+e.Name()] = string(text)
	}
	return out
}
