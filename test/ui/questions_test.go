package ui_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-cd/sluice/engine/plan"
)

// mostSteps is how many interactions may lead to an answer: a key, a click, or a text that is typed is one.
const mostSteps = 3

// question is what somebody asks who is new here and sees the first page.
type question struct {
	asked string
	steps []string // "key x", "click TEXT" of a link or button, "type TEXT"
	says  string   // what the answer is, as a pattern of the page's text
}

// questions are those of docs/console.md, in its order.
func questions() []question {
	return []question{
		{"Is everything where it should be?", nil, `\d+ things need you`},
		{"Why does acme not get 1.2.0?", []string{"key Ctrl+k", "type acme", "key Enter"},
			`(?s)acme.*1\.1\.0.*(wait|soak|after|upstream|staging)`},
		{"Who moved dedicated to 1.1.0, and on what evidence?", []string{"click 1.1.0", "click @promoted"},
			`(?s)promote 1.1.0 to dedicated.*Gate: soak held`},
		{"When may nothing move, and why?", []string{"key g", "key w"}, `freeze of regulated: end of the quarter`},
		{"Which cells failed, and why?", []string{"click 1 failing"}, `(?s)s1.*server is not ready: the migration has not run`},
		{"What will change for users today?", []string{"key g", "key w"}, `announcement classes is due in dedicated`},
		{"Which cells lose support this week?", []string{"key g", "key w"},
			`bank of regulated: out of support unless infrastructure update 7 is executed`},
		{"Who is out of support already?", []string{"key g", "key i"},
			`1 cell of regulated is out of support: infrastructure update 7 was due`},
		{"How far is the rollout in dedicated, and how many cells may fail yet?", []string{"click dedicated"},
			`(?s)No failure counts against it yet; 1 may, and one more stops.*Wave 1.*0 of 4 cells soaked`},
		{"How do I stop it?", []string{"click dedicated", "click Hold…"}, `Show the commit`},
		{"What did the engine do last night?", []string{"key g", "key h"}, `(?s)rollback.*1\.0\.0.*staging`},
		{"What is switched off everywhere, and why?", []string{"key g", "key l"}, `(?s)class-picker.*loses text`},
	}
}

// A newcomer's questions are answered within three interactions, each from the first page.
func TestQuestions(t *testing.T) {
	_, s, b := newFormSite(t)
	s.decided = []plan.Decided{{Commit: "c1", Kind: plan.Rollback, Channel: "staging", Release: "1.0.0",
		Replaces: "1.1.0", At: s.View().Plan.Now}}
	docs, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range questions() {
		if len(q.steps) > mostSteps {
			t.Errorf("%s: %d interactions", q.asked, len(q.steps))
		}
		if !strings.Contains(string(docs), fmt.Sprintf("| %s | %d |", q.asked, len(q.steps))) {
			t.Errorf("docs/console.md does not have %q with %d interactions", q.asked, len(q.steps))
		}
		b.visit(s.URL + "/ui/")
		b.await(`document.querySelector("#live").textContent === "live"`)
		for _, step := range q.steps {
			b.step(step)
		}
		b.await(fmt.Sprintf(`/%s/.test(document.querySelector("main").innerText)`, anyOrLine(q.says)))
		t.Logf("%d: %s", len(q.steps), q.asked)
	}
	b.wantNoProblems("a question")
}

// anyOrLine returns a pattern of Go as one of JavaScript.
func anyOrLine(pattern string) string {
	if rest, whole := strings.CutPrefix(pattern, "(?s)"); whole {
		return strings.ReplaceAll(rest, ".*", `[\s\S]*`)
	}
	return pattern
}

var namedStep = regexp.MustCompile(`^(key|click|type) (.+)$`)

// step does one interaction.
func (b *browser) step(text string) {
	b.t.Helper()
	m := namedStep.FindStringSubmatch(text)
	switch {
	case m == nil:
		b.t.Fatalf("no step: %s", text)
	case m[1] == "type":
		b.do(chromedp.SendKeys("dialog[open] input", m[2], chromedp.ByQuery))
		b.await(fmt.Sprintf(`document.querySelector("dialog [aria-selected=true]")?.textContent.includes(%q)`, m[2]))
	case m[1] == "click":
		find := fmt.Sprintf(`[...document.querySelectorAll("main a, main button")].find((e) => e.innerText.trim() === %q)`, m[2])
		if m[2] == "@promoted" { // the commit in the row of the decision on dedicated
			find = `[...document.querySelectorAll("#region-decisions tr")].find((e) => /dedicated[^]*promoted/.test(e.innerText))
				?.querySelector("td:last-child a")`
		}
		b.await("(globalThis.clicked = " + find + ")")
		b.do(chromedp.Evaluate(`globalThis.clicked.click()`, nil))
		b.await(`!globalThis.clicked && document.readyState === "complete"`) // another page
	case m[2] == "Enter":
		b.do(chromedp.KeyEvent(kb.Enter))
	case m[2] == "Ctrl+k":
		b.do(chromedp.KeyEvent("k", chromedp.KeyModifiers(2)), chromedp.WaitVisible("dialog[open] input"))
	default:
		b.do(chromedp.KeyEvent(m[2]))
	}
}
