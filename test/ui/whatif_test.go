package ui_test

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// What if: the text of a policy is changed in its form, compared, and then mended where it has a fault.
func TestWhatIf(t *testing.T) {
	w, v := busyView(t)
	s := newSite(t, v)
	s.world = w
	b := open(t, 1280, 900)
	b.visit(s.URL + "/ui/whatif/regulated")
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.do(chromedp.Focus("#policy", chromedp.ByQuery), chromedp.KeyEvent(kb.End, chromedp.KeyModifiers(2)),
		chromedp.SendKeys("#policy", "promot: auto\n", chromedp.ByQuery))
	b.do(chromedp.Focus("form.trial button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelector("#region-answer")?.textContent.includes("channels/regulated/channel.yaml:")`)
	if !value[bool](b, `document.querySelector("#policy").value.includes("promot: auto")`) {
		t.Error("the text is lost")
	}
	b.do(chromedp.Evaluate(`{ const p = document.querySelector("#policy"); p.value = p.value.replace("promot: auto\n", "")
		.replace("promote: manual", "promote: auto"); document.querySelector("#days").value = "14"; true }`, nil),
		chromedp.Focus("form.trial button", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`document.querySelectorAll("#region-answer svg.axis .span").length > 4`)
	b.await(`document.querySelector("#region-answer").textContent.includes("earlier")`)
	for _, appearance := range []string{"light", "dark", "forced"} {
		b.appearance(appearance)
		b.wantAccessible("the answer in " + appearance)
	}
	b.wantNoProblems("what if")
}
