package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// conditions are all conditions, the most pressing first.
func conditions() []view.Condition {
	return []view.Condition{view.ConditionFailing, view.ConditionShutOut, view.ConditionSilent, view.ConditionUpdating,
		view.ConditionHeld, view.ConditionBehind, view.ConditionNew, view.ConditionHealthy}
}

// shapeOfCondition returns the name of a condition's shape, which is the condition's own.
func shapeOfCondition(c view.Condition) string { return string(c) }

// link returns a link to the page of one thing.
func link(kind Kind, name string) markup.HTML { return linkAs(kind, name, name) }

func linkAs(kind Kind, name, text string) markup.HTML {
	return markup.Link(Address{Kind: kind, Name: name}.String(), text)
}

// version returns a link to a release.
func version(name string) markup.HTML {
	if name == "" {
		return ui.Soft("nothing")
	}
	return markup.Element("a", markup.Attributes{"class", "version", "href", Address{Kind: Releases,
		Name: name}.String()},
		markup.Text(name))
}

// sentence returns a verdict: its gate, its reason, and its clock.
func sentence(v channels.Verdict) markup.HTML {
	parts := []markup.HTML{ui.Element("span", "gate", markup.Text(v.Gate)), " ", prose(v.Reason)}
	if !v.Until.IsZero() {
		parts = append(parts, ui.Element("span", "until", " until ", ui.Instant(v.Until)))
	}
	return markup.Join(parts...)
}

// prose returns a sentence, with the instants in it as the page shows all others.
func prose(text string) markup.HTML {
	var parts []markup.HTML
	for {
		from, until, at := nextInstant(text)
		if at.IsZero() {
			return markup.Join(append(parts, markup.Text(text))...)
		}
		parts = append(parts, markup.Text(text[:from]), ui.Instant(at))
		text = text[until:]
	}
}

// nextInstant returns where the first instant of a text is, as words.FormatTime writes it; a zero at: there is none.
func nextInstant(text string) (from, until int, at time.Time) {
	const layout = "2006-01-02T15:04:05Z"
	const length = len(layout)
	for ; from+length <= len(text); from++ {
		if text[from+length-1] != 'Z' || text[from+10] != 'T' {
			continue
		}
		if at, err := time.Parse(layout, text[from:from+length]); err == nil {
			return from, from + length, at
		}
	}
	return 0, 0, at
}

// verdicts lists verdicts, the first few of them.
func verdicts(all []channels.Verdict) markup.HTML {
	var items []markup.HTML
	for _, v := range all[:min(len(all), maxListed)] {
		items = append(items, ui.Element("li", "", ui.Mark("held", ""), ui.Element("span", "", sentence(v))))
	}
	if more := len(all) - len(items); more > 0 {
		items = append(items, ui.Element("li", "", ui.Mark("none", ""), ui.Soft(fmt.Sprintf("and %d more", more))))
	}
	if len(items) == 0 {
		return ""
	}
	return ui.Element("ul", "verdicts", items...)
}

// some lists links to things, the first few of them.
func some(kind Kind, names []string) markup.HTML {
	if len(names) == 0 {
		return ui.Soft("none")
	}
	var parts []markup.HTML
	for i, name := range names[:min(len(names), maxListed)] {
		if i > 0 {
			parts = append(parts, ", ")
		}
		parts = append(parts, link(kind, name))
	}
	if more := len(names) - maxListed; more > 0 {
		parts = append(parts, ui.Soft(fmt.Sprintf(" and %s more", ui.Thousands(more))))
	}
	return markup.Join(parts...)
}

// sortedKeys returns the keys of counts, the greatest count first.
func sortedKeys[K ~string](counts map[K]int) []K {
	keys := make([]K, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(string(a), string(b)))
	})
	return keys
}
