package ui_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/maintenance"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/export"
)

// program builds the command once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-ui")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "sluice")
	cmd := exec.Command("go", "build", "-o", name, "./cmd/sluice")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return name, nil
})

// ownersPage serves a state folder by the command itself, and returns the address that works once.
func ownersPage(t *testing.T, state string) string {
	t.Helper()
	sluice, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sluice, "cell", "ui", "--state", state) // it ends by the signal below
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // Wait says how it ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("sluice cell ui: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`http://\S+`).FindString(line)
	if address == "" {
		t.Fatalf("no address in %q", line)
	}
	return address
}

func keep(t *testing.T, state, name string, content any) {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, name)
	if name == "inforce.json" { // the agent can't afford to misread it
		err = disk.WriteChecksummed(file, text)
	} else {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stateFolder returns a state folder as a running agent keeps it: 1.0.0 runs, and 1.1.0 is offered. With a text, all
// that the vendor or a release wrote is that.
func stateFolder(t *testing.T, hostile string) (state string, next releases.Digest) {
	t.Helper()
	state = t.TempDir()
	say := func(text string) string {
		if hostile != "" {
			return hostile
		}
		return text
	}
	if err := os.Mkdir(filepath.Join(state, "releases"), 0o700); err != nil {
		t.Fatal(err)
	}
	digests := map[string]releases.Digest{}
	for _, v := range []string{"1.0.0", "1.1.0"} {
		tar := agenttest.Pack(t, agenttest.Release(v, map[string]string{"notes.md": say("# Workspace classes\n\n" +
			"Administrators offer *classes* of workspaces.\n\n- The editor starts twice as fast.\n- Fixes SEC-42.\n")}))
		digests[v] = releases.DigestBytes(tar)
		if err := os.WriteFile(filepath.Join(state, "releases", digests[v].Hex()+".tar"), tar, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	runs := &cells.Assignment{Channel: say("dedicated"), Release: "1.0.0", Digest: digests["1.0.0"], Profile: "default"}
	keep(t, state, "journal.json", map[string]any{"cell": "acme", "lastGood": runs, "features": nil})
	keep(t, state, "offered.json", map[string]any{"running": runs, "assignment": runs,
		"head":  cells.Head{Channel: say("dedicated"), Release: "1.1.0", Digest: digests["1.1.0"], Sequence: 8},
		"hold":  cells.Hold{Gate: say("window"), Reason: say("shut until Monday"), Until: now.Add(61 * time.Hour)},
		"waits": say("waits for the owner's approval of 1.1.0"),
		"notices": []cells.Notice{{Code: cells.NoticeInfrastructure,
			Text: say("infrastructure update 7 is due at 2026-12-24T00:00:00Z: execute it before")}}})
	keep(t, state, "reported.json", map[string]any{"state": cells.StateHealthy, "message": say(""), "running": runs,
		"infrastructure": cells.ActualInfrastructure{Number: 6}, "since": now.Add(-49 * time.Hour),
		"failures": []cells.Failure{{Assignment: cells.Assignment{Release: "0.9.0"}, At: now.Add(-60 * time.Hour),
			Reason: say("the hook ended with 1: no space left on device")}},
		"events": []cells.Event{{Kind: "started", Release: "1.0.0", At: now.Add(-50 * time.Hour)},
			{Kind: "applied", Release: "1.0.0", At: now.Add(-50 * time.Hour)},
			{Kind: say("healthy"), Release: say("1.0.0"), Detail: say(""), At: now.Add(-49 * time.Hour)}}})
	keep(t, state, "maintenance.json", maintenance.State{Phase: maintenance.Announced,
		Begins:  now.Add(20 * time.Minute),
		Refused: []string{say("start-workspace")}, Release: say("1.1.0"), Reason: say("the update to 1.1.0")})
	keep(t, state, "inforce.json", map[string]any{"height": 12,
		"killed": []map[string]string{{"flag": say("bulk-import"),
			"reason": say("loses rows")}}, "announcements": []map[string]any{{"id": say("classes"), "state": "armed",
			"at": now.Add(4 * time.Hour), "features": []string{say("workspace-classes")}},
			{"id": "editor", "state": "on", "features": []string{"fast-editor"}}}})
	if err := os.Mkdir(filepath.Join(state, "export"), 0o700); err != nil {
		t.Fatal(err)
	}
	keep(t, state, "export/wish.json", map[string]any{"release": "1.0.0", "list": export.List{
		Metrics: []export.Metric{{Name: "workspaces", Type: export.Gauge, Labels: map[string]export.Use{
			say("class"): {As: export.Enum, Values: []string{"large", "small"}}}}},
		Events: []export.Event{{Kind: "import-failed"}}}})
	keep(t, state, "export/"+waitingExport+".jsonl", map[string]any{"metric": "workspaces", "value": 12,
		"labels": map[string]string{say("class"): "large"}})
	owner := "apiVersion: sluice/v1\nkind: Owner\napproval: true\n" +
		"windows:\n- {opens: \"0 22 * * SAT\", for: 4h, zone: Europe/Berlin}\n"
	if hostile != "" {
		owner += "paused: \"" + `<script>ran=1</script>\u202e` + "\"\n"
	}
	if err := os.WriteFile(filepath.Join(state, "owner.yaml"), []byte(owner), 0o600); err != nil {
		t.Fatal(err)
	}
	return state, digests["1.1.0"]
}

// waitingExport is a file that waits to leave the cell.
const waitingExport = "20261130T001200Z"

// ownersPages are the pages below the first one.
func ownersPages(next releases.Digest) []string {
	return []string{"", "difference/" + string(next), "do/pause", "do/add-window?step=preview&opens=x&for=soon",
		"do/pause?step=preview&reason=quarter+end", "do/export-off", "do/hold-export?step=preview&hold=soon",
		"export/" + waitingExport, "do/approve?step=preview&digest=" + url.QueryEscape(string(next)), "nowhere"}
}

// The owner's pages have no fault that axe-core finds, fit into 320 px, and are drawn in light and dark.
func TestOwnersPage(t *testing.T) {
	state, next := stateFolder(t, "")
	address := ownersPage(t, state)
	base, _, _ := strings.Cut(address, "?")
	b := open(t, 1280, 900)
	b.visit(address)
	b.await(`document.querySelector("#live").textContent === "live"`)
	for _, appearance := range []string{"light", "dark", "forced"} {
		b.appearance(appearance)
		for _, path := range ownersPages(next) {
			b.visit(base + path)
			b.wantAccessible(path + " in " + appearance)
		}
	}
	if text := value[string](b, `document.title`); !strings.Contains(text, "no such page") {
		t.Errorf("the last page is %q", text)
	}
	b.visit(base + "difference/" + string(next))
	if text := value[string](b, `document.querySelector("main").innerText`); !strings.Contains(text, `version: 1.1.0`) {
		t.Errorf("the difference: %s", text)
	}
	b.wantFits(base, ownersPages(next))
	// Pictures name the folder as the documentation does.
	usual := fmt.Sprintf(`{ const all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (all.nextNode()) all.currentNode.data = all.currentNode.data.replaceAll(%q, "/var/lib/sluice"); true }`,
		state)
	for _, look := range looks() {
		b.take(look)
		for i, path := range ownersPages(next) {
			b.visit(base + path)
			b.do(chromedp.Evaluate(usual, nil))
			b.takePicture(fmt.Sprintf("owner-%d-%s", i, look.name))
		}
	}
	b.wantNoProblems("the owner's page")
}

// R18, by keyboard alone: the owner approves and pauses, the tab that follows sees it, and owner.yaml has it.
func TestR18OwnersKeyboard(t *testing.T) {
	state, next := stateFolder(t, "")
	address := ownersPage(t, state)
	base, _, _ := strings.Cut(address, "?")
	b := open(t, 1280, 900)
	b.visit(address)
	press := func(selector string) {
		t.Helper()
		b.do(chromedp.Focus(selector), chromedp.KeyEvent(kb.Enter))
	}
	press(`.card a[href*="do/approve"]`)
	b.await(`document.querySelector(".ask")`)
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.Focus("#field-digest"), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector(".confirm") && document.querySelector(".diff").innerText.includes("` +
		string(next) + `")`)
	press(".confirm button")
	b.await(`document.querySelector("main").innerText.includes("approved 1.1.0")`)
	press(`a[href*="do/approve-export"]`)
	b.await(`document.querySelector(".ask")`)
	b.do(chromedp.Focus("#field-release"), chromedp.SendKeys("#field-release", "1.0.0"), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector(".confirm")`)
	press(".confirm button")
	b.await(`document.querySelector("#region-exports").innerText.includes("May leave")`)
	b.visit(base)
	b.await(`document.querySelector("#live").textContent === "live"`)
	sluice, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(sluice, "cell", "pause", "--reason", "quarter end", "--state",
		state).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.await(`document.querySelector("#region-decided").innerText.includes("quarter end")`)
	text, err := os.ReadFile(filepath.Join(state, "owner.yaml"))
	if err != nil || !strings.Contains(string(text), string(next)) || !strings.Contains(string(text), "quarter end") {
		t.Errorf("%s: %v", text, err)
	}
	b.wantNoProblems("the owner's page")
}

// R54: no text of the vendor's, of a release or of the owner's runs in the owner's browser. Without scripts the page
// works too.
func TestR54NothingRunsAtTheOwner(t *testing.T) {
	state, next := stateFolder(t, HostileText)
	address := ownersPage(t, state)
	base, _, _ := strings.Cut(address, "?")
	b := open(t, 1280, 900)
	b.visit(address)
	for _, path := range append(ownersPages(next), "do/pin?release="+url.QueryEscape(HostileText)) {
		b.visit(base + path)
		if ran := value[string](b, `String(globalThis.ran)`); ran != "undefined" {
			t.Errorf("%q: something ran: %s", path, ran)
		}
		if n := value[int](b, `document.scripts.length + document.images.length + document.querySelectorAll("evil").length`); n != 1 {
			t.Errorf("%q has %d scripts and images, want one script", path, n)
		}
	}
	b.wantFits(base, ownersPages(next))
	b.do(noScripts())
	b.visit(base + "do/unpause")
	b.do(chromedp.Click(".confirm button"), chromedp.WaitVisible("#region-done"))
	if text, err := os.ReadFile(filepath.Join(state, "owner.yaml")); err != nil || strings.Contains(string(text),
		"paused") {
		t.Errorf("%s: %v", text, err)
	}
	b.wantNoProblems("the owner's page")
}
