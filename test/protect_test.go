package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fencedBlocks returns the texts of a page's blocks of a kind.
func fencedBlocks(page, kind string) (all []string) {
	for _, m := range regexp.MustCompile("(?ms)^```(\\S*)\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		if m[1] == kind {
			all = append(all, m[2])
		}
	}
	return all
}

// pathsOf returns the first words of a block's lines, which are paths.
func pathsOf(block string) (all []string) {
	for line := range strings.Lines(block) {
		if fields := strings.Fields(line); len(fields) > 0 {
			all = append(all, strings.TrimSuffix(fields[0], ","))
		}
	}
	return all
}

// protectedPaths returns the rows of one table of docs/protect.md: who signs, by path.
func protectedPaths(t *testing.T, heading string) (paths []string, signers map[string]string) {
	t.Helper()
	_, after, found := strings.Cut(readDoc(t, "protect.md"), "| "+heading+" |")
	if !found {
		t.Fatalf("docs/protect.md has no table of the %s", heading)
	}
	table, _, _ := strings.Cut(after, "\n\n")
	signers = map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(table, -1) {
		paths, signers[m[1]] = append(paths, m[1]), m[2]
	}
	return paths, signers
}

// R52: docs/protect.md has every path of both repositories, and says of those that owners guard what the code says.
func TestR52ProtectedPaths(t *testing.T) {
	var blocks []string // of docs/formats.md: the lists of files
	for _, block := range fencedBlocks(readDoc(t, "formats.md"), "") {
		if strings.HasPrefix(block, "sluice.yaml ") {
			blocks = append(blocks, block)
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("docs/formats.md has %d lists of files, want one for each repository", len(blocks))
	}
	for i, heading := range []string{"release repository", "flags repository"} {
		listed, signers := protectedPaths(t, heading)
		if want := pathsOf(blocks[i]); !slices.Equal(listed, want) {
			t.Errorf("docs/protect.md, %s: %q, want those of docs/formats.md: %q", heading, listed, want)
		}
		for _, name := range listed {
			guarded := plan.IsGuarded(name)
			if i > 0 {
				guarded = name == "sluice.yaml" // TestR52OwnersOfFlagsSettings
			}
			if said := strings.HasPrefix(signers[name], "owner"); said != guarded {
				t.Errorf("docs/protect.md says that %s is signed by %q; guarded: %t", name, signers[name], !said)
			}
		}
	}
}

// R52: the CODEOWNERS files of docs/protect.md parse, and name an owner for every path that Sluice guards.
func TestR52CodeOwners(t *testing.T) {
	paths, _ := protectedPaths(t, "release repository")
	for kind, compile := range map[string]func(string) (*regexp.Regexp, error){
		"codeowners": func(pattern string) (*regexp.Regexp, error) {
			text := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, "[^/]*")
			if !strings.HasSuffix(text, "/") {
				text += "(/|$)"
			}
			return regexp.Compile("^" + text)
		},
		"codeowners-gitea": func(pattern string) (*regexp.Regexp, error) {
			return regexp.Compile("^/" + pattern + "$")
		},
	} {
		blocks := fencedBlocks(readDoc(t, "protect.md"), kind)
		if len(blocks) != 1 {
			t.Fatalf("docs/protect.md has %d blocks of %s, want 1", len(blocks), kind)
		}
		var rules []*regexp.Regexp
		for line := range strings.Lines(blocks[0]) {
			fields := strings.Fields(line)
			if len(fields) < 2 || slices.ContainsFunc(fields[1:], func(s string) bool { return s[0] != '@' }) {
				t.Errorf("%s: %q is not a pattern and its owners", kind, line)
				continue
			}
			rule, err := compile(fields[0])
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				continue
			}
			rules = append(rules, rule)
		}
		for _, name := range paths {
			owned := slices.ContainsFunc(rules, func(r *regexp.Regexp) bool { return r.MatchString("/" + name) })
			if plan.IsGuarded(name) && !owned {
				t.Errorf("%s: nobody owns %s", kind, name)
			}
		}
	}
}

// R52: the hook of docs/protect.md works as it is written there, and takes what has no fault.
func TestR52HookOfTheDocs(t *testing.T) {
	t.Parallel()
	blocks := fencedBlocks(readDoc(t, "protect.md"), "sh")
	if len(blocks) != 1 {
		t.Fatalf("docs/protect.md has %d scripts, want 1", len(blocks))
	}
	dir := t.TempDir()
	binary := os.Getenv(binaryVariable)
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_GLOBAL="+os.DevNull, "HOME="+dir, "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
			"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) {
		t.Helper()
		if out, err := git(args...); err != nil {
			t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(kind, text string) (string, error) {
		write(kind+"/sluice.yaml", "apiVersion: sluice/v1\nkind: "+kind+"\n"+text, 0o644)
		must("-C", kind, "add", "-A")
		must("-C", kind, "commit", "-qm", "change")
		return git("-C", kind, "push", "-q", "../"+kind+".git", "main")
	}
	const owned = "people: {ada: {keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGy\"]}}\n" +
		"owners: [ada]\n"
	for kind, more := range map[string]string{"Pipeline": "staleAfter: 1h\n", "Flags": "soak: 2h\n"} {
		must("init", "-q", "--bare", "-b", "main", kind+".git")
		must("init", "-q", "-b", "main", kind)
		write(kind+".git/hooks/pre-receive", blocks[0], 0o755)
		if out, err := commit(kind, owned); err != nil {
			t.Fatalf("%s: a good push was refused: %s", kind, out)
		}
		if out, err := commit(kind, owned+more); err == nil || !strings.Contains(out, "no owner signed") {
			t.Errorf("%s: a push that no owner signed: %v: %s", kind, err, out)
		}
	}
}

// The tests that docs/threats.md names are there, and what it does not name a test for says what is not held.
func TestThreats(t *testing.T) {
	page := readDoc(t, "threats.md")
	declared := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		src, err := os.ReadFile(name)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(src, -1) {
			declared[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"stranger", "cell", "contributor", "approver", "owner", "git host", "control plane"} {
		if !regexp.MustCompile(`(?m)^## (A|An|The) ` + who + `$`).MatchString(page) {
			t.Errorf("docs/threats.md says nothing of the %s", who)
		}
	}
	rows := 0
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ?([^|]*)\|$`).FindAllStringSubmatch(page, -1) {
		tries, holds, tests := m[1], m[2], regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1)
		if tries == "tries" {
			continue
		}
		rows++
		if len(tests) == 0 && !strings.Contains(holds, "not held yet") &&
			!strings.HasPrefix(holds, "the git host alone") {
			t.Errorf("docs/threats.md: %q: %q names no test", tries, holds)
		}
		for _, test := range tests {
			if !declared[test[1]] {
				t.Errorf("docs/threats.md: %q: there is no test %s", tries, test[1])
			}
		}
	}
	if rows < 50 {
		t.Errorf("docs/threats.md has %d rows: is the page written in another way?", rows)
	}
}
