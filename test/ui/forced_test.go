package ui_test

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// forcedFaults lists what a reader in forced colours can't tell from something else. Each state has a word; shapes have
// the colour of text, or a hatch; in one chart no two classes of stretches look alike.
const forcedFaults = `(() => {
	const wrong = [], { backgroundColor: paper, color: ink } = getComputedStyle(document.body);
	const say = (what, e) => wrong.push(what + ": " + e.outerHTML.slice(0, 120));
	for (const e of document.querySelectorAll("main .state"))
		if (!e.textContent.trim()) say("a state without a word", e);
	for (const e of document.querySelectorAll("main svg.mark")) {
		const said = e.getAttribute("aria-label") || e.parentElement.textContent.trim() ||
			e.parentElement.parentElement.textContent.trim();
		if (!said) say("a mark without a word", e);
		if (getComputedStyle(e).fill !== ink) say("a mark in a colour of its own", e);
	}
	for (const chart of document.querySelectorAll("main svg.axis")) {
		const looks = new Map();
		for (const e of chart.querySelectorAll(".span, .layer")) {
			const s = getComputedStyle(e), name = e.getAttribute("class").replace(/^(span|layer) /, "");
			const hatch = s.fill.match(/#(hatch-\d)/)?.[1];
			if (hatch && !document.querySelector("pattern#" + hatch)) say("no such hatch " + hatch, e);
			if (!hatch && s.fill !== ink && (s.fill !== "none" || s.stroke === "none"))
				say("a stretch that only its colour tells", e);
			const look = s.fill + s.strokeDasharray;
			if ((looks.get(look) ?? name) !== name) say("looks like " + looks.get(look), e);
			looks.set(look, name);
		}
		for (const e of chart.querySelectorAll("line, .trouble-line"))
			if (getComputedStyle(e).stroke === paper) say("an invisible line", e);
		for (const e of chart.querySelectorAll("text"))
			if (getComputedStyle(e).fill === paper) say("an invisible text", e);
	}
	return wrong;
})()`

// In forced colours, on black and on white, nothing is told by colour alone, and the focus is seen.
func TestForcedColours(t *testing.T) {
	w, v := busyView(t)
	s := newSite(t, v, asAda)
	s.world = w
	s.countDays(t)
	state, next := stateFolder(t, "")
	address := ownersPage(t, state)
	b := open(t, 1280, 900)
	b.visit(address)
	owners := value[string](b, `location.origin + document.body.dataset.base`)
	var all []string
	for _, path := range paths() {
		all = append(all, s.URL+path)
	}
	for _, path := range ownersPages(next) {
		all = append(all, owners+path)
	}
	charts := 0
	for _, appearance := range []string{"forced", "forced light"} {
		b.appearance(appearance)
		for _, url := range all {
			b.visit(url)
			for _, wrong := range value[[]string](b, forcedFaults) {
				t.Errorf("%s in %s: %s", url, appearance, wrong)
			}
			charts += value[int](b, `document.querySelectorAll("main svg.axis :is(.span, .layer)").length`)
			b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab))
			if !value[bool](b, `(() => { const s = getComputedStyle(document.activeElement);
				return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 &&
					s.outlineColor !== getComputedStyle(document.body).backgroundColor; })()`) {
				t.Errorf("%s in %s: the focus is not seen", url, appearance)
			}
		}
	}
	if charts < 20 {
		t.Errorf("the charts have %d stretches: too few to compare", charts)
	}
	b.wantNoProblems("forced colours")
}
