package ui_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/notices"
)

// shown is what Microsoft's renderer makes of a card.
type shown struct {
	Events   []string // what is wrong with the card
	Text     string   // that a person sees
	Elements []string // names of the page's elements
}

// showCard has Microsoft's renderer parse and show a card, as of the version that the card names.
func showCard(b *browser, card string) (s shown) {
	b.t.Helper()
	var text string
	b.do(chromedp.Evaluate(fmt.Sprintf(`(() => {
		const json = JSON.parse(%q), context = new AdaptiveCards.SerializationContext(AdaptiveCards.Version.parse(json.version));
		const card = new AdaptiveCards.AdaptiveCard();
		card.parse(json, context);
		const e = card.render(), all = [...(e?.querySelectorAll("*") ?? [])].map((e) => e.tagName);
		const events = [];
		for (let i = 0; i < context.eventCount; i++) events.push(context.getEventAt(i).message);
		return JSON.stringify({ Events: events, Text: e?.textContent ?? "", Elements: [...new Set(all)] }); })()`, card), &text))
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// R54: Microsoft's own parser finds nothing wrong with a notice's card, and its renderer shows hostile text as text.
func TestTeamsCards(t *testing.T) {
	b := open(t, 800, 600)
	b.do(chromedp.Navigate("about:blank"))
	b.load(adaptiveCards)
	var due []notices.Notice
	for i, severity := range []notices.Severity{notices.Info, notices.Warning, notices.Critical} {
		due = append(due, notices.Notice{ID: fmt.Sprint(i), Thread: fmt.Sprint(i), Severity: severity,
			Title: "bold **no** [link](https://evil.example) " + HostileText,
			Lines: []string{"{{DATE(2026-11-24T12:00:00Z, SHORT)}}", "# no heading"}})
	}
	d, _ := notices.Gather(due)
	body, err := d.Teams()
	var message struct {
		Attachments []struct{ Content json.RawMessage }
	}
	if err == nil {
		err = json.Unmarshal(body, &message)
	}
	if err != nil || len(message.Attachments) != 1 {
		t.Fatalf("%s (%v)", body, err)
	}
	card := string(message.Attachments[0].Content)
	got := showCard(b, card)
	if len(got.Events) > 0 || !strings.Contains(got.Text, "bold **no**") ||
		!strings.Contains(got.Text, "# no heading") ||
		slices.ContainsFunc(got.Elements, func(name string) bool {
			return slices.Contains([]string{"A", "IMG", "SCRIPT", "EVIL", "STRONG", "B", "H1"}, name)
		}) {
		t.Errorf("%+v of %s", got, card)
	}
	for wrong, by := range map[string]string{`"RichTextBlock"`: `"RichBlock"`, `"Warning"`: `"Orange"`, `"TextRun"`: `"Run"`} {
		if changed := strings.Replace(card, wrong, by, 1); changed == card || len(showCard(b, changed).Events) == 0 {
			t.Errorf("nothing is wrong with %s in place of %s", by, wrong)
		}
	}
}
