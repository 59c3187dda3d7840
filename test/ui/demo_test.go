package ui_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var consoleURL = regexp.MustCompile(`follow it in a browser: (http\S+)/ui/`)

// The story of the demo is followed in the console from its first line on, without a page being loaded again, and the
// reader takes part by a form: the commit is theirs.
func TestDemoIsFollowedInTheConsole(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "sluice")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/sluice")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	demo := exec.CommandContext(t.Context(), binary, "demo", "--dir", filepath.Join(dir, "demo"), "--timeout", "8m")
	demo.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada",
		"GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	demo.Cancel = func() error { return demo.Process.Signal(os.Interrupt) }
	demo.WaitDelay = time.Minute
	var said bytes.Buffer // read by the test alone
	printed, err := demo.StdoutPipe()
	if err == nil {
		demo.Stderr = os.Stderr
		err = demo.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = demo.Process.Signal(os.Interrupt) // the demo ends its children
		_ = demo.Wait()
	})
	lines := bufio.NewScanner(printed)
	readUntil := func(pattern *regexp.Regexp) []string {
		t.Helper()
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if m := pattern.FindStringSubmatch(lines.Text()); m != nil {
				return m
			}
		}
		t.Fatalf("the demo never says %s:\n%s", pattern, said.String())
		return nil
	}
	server := readUntil(consoleURL)[1]
	b := open(t, 1280, 900)
	b.visit(server + "/ui/")
	b.await(`document.querySelector("#region-acts-as").innerText.includes("ada@example.com")`)
	b.do(chromedp.Evaluate(`globalThis.loaded = 1; true`, nil))
	b.awaitFor(5*time.Minute, `document.querySelector("main").innerText.includes("2026.11.2")`) // the bad one is cut
	readUntil(regexp.MustCompile(`The demo runs until you press`))
	b.await(`/staging[^]*2026\.11\.3[^]*dedicated[^]*2026\.11\.3/.test(document.querySelector("#region-lanes").innerText)`)
	if value[int](b, `globalThis.loaded ?? 0`) != 1 {
		t.Error("the page was loaded again meanwhile")
	}
	for path, says := range map[string]string{
		"/ui/history":                         `/rollback[^]*2026\.11\.1[^]*staging/`,
		"/ui/releases/2026.11.2":              `/quarantin/`,
		"/ui/flags":                           `/class-picker[^]*killed/`,
		"/ui/announcements/workspace-classes": `/Workspace classes/`,
		"/ui/cells/acme":                      `/2026\.11\.3/`,
	} {
		b.visit(server + path)
		b.await(says + `.test(document.querySelector("main").innerText)`)
	}
	b.visit(server + "/ui/do/hold?channel=dedicated")
	b.do(chromedp.Focus("#field-reason", chromedp.ByQuery), chromedp.KeyEvent("just trying"),
		chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector(".confirm button")`)
	b.do(chromedp.Focus(".confirm button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`location.pathname.startsWith("/ui/commits/releases/") && document.querySelector(".alert.passed")`)
	last := exec.CommandContext(t.Context(), "git", "-C", filepath.Join(dir, "demo", "releases"), "log", "-1",
		"--format=%an <%ae>%n%B", "main", "--", "channels/dedicated/holds")
	if out, err := last.CombinedOutput(); err != nil || !strings.HasPrefix(string(out),
		"Ada <ada@example.com>\nhold dedicated\n\njust trying\n\nAsked-By: ada@example.com (serve --console-as)\n") {
		t.Errorf("%v\n%s", err, out)
	}
	b.visit(server + "/ui/")
	b.await(`/dedicated is on hold/.test(document.querySelector("main").innerText)`)
	b.wantNoProblems("the demo")
}
