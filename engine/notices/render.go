package notices

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/internal/words"
)

// Limits of one message: what a reader's program takes, and what people read.
const (
	maxThreads   = 20       // in one message
	maxTitle     = 200      // bytes
	maxLine      = 600      // bytes
	maxText      = 12 << 10 // bytes of one message
	zeroWidth    = "\u200b" // keeps chat programs from obeying what follows
	subjectBytes = 150
)

// Digest is one message for people, about one notice or several.
type Digest struct {
	Subject string
	Items   []Item
	Thread  string // of the newest notice
	Over    bool   // all of its threads are over
}

// Item is one thread in a Digest.
type Item struct {
	Title    string
	Lines    []string
	Severity Severity
}

// Gather makes one message of due notices, oldest first. Of several notices of one thread the newest stands for all.
// covered is how many notices the message covers, at least one: the others are for another message, so that nothing is
// left out and no message is too long.
func Gather(due []Notice) (d Digest, covered int) {
	newest, size := map[string]Notice{}, 0
	var order []string
	for _, n := range due {
		was, known := newest[n.Thread]
		grown := size + itemSize(n) - itemSize(was)
		if covered > 0 && (!known && len(order) == maxThreads || grown > maxText) {
			break
		}
		if !known {
			order = append(order, n.Thread)
		}
		newest[n.Thread], size = n, grown
		covered++
	}
	worst, left := 0, covered-len(order)
	d.Over = true
	for i, thread := range order {
		n := newest[thread]
		item := Item{Title: words.Clip(n.Line(), maxTitle), Severity: n.Severity}
		for _, line := range n.Text() {
			item.Lines = append(item.Lines, words.Clip(line, maxLine))
		}
		d.Items = append(d.Items, item)
		d.Over = d.Over && n.Over
		if n.Severity.rank() > newest[order[worst]].Severity.rank() {
			worst = i
		}
	}
	d.Thread = order[worst]
	d.Subject = words.Clip(d.Items[worst].Title, subjectBytes)
	if more := len(order) - 1; more > 0 {
		d.Subject = fmt.Sprintf("%s, and %s", d.Subject, words.Count(more, "more notice"))
	}
	if left > 0 {
		last := &d.Items[len(d.Items)-1]
		last.Lines = append(last.Lines, fmt.Sprintf("%s of the same threads, which these replace, are left out",
			words.Count(left, "earlier notice")))
	}
	return d, covered
}

func itemSize(n Notice) int {
	if n.Thread == "" {
		return 0
	}
	size := len(n.Title)
	for _, line := range n.Text() {
		size += len(line) + 1
	}
	return size
}

// PlainText returns the message as mail shows it.
func (d Digest) PlainText() string {
	var b strings.Builder
	for i, item := range d.Items {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "[%s] %s\n", item.Severity, item.Title)
		for _, line := range item.Lines {
			b.WriteString("  " + line + "\n")
		}
	}
	b.WriteString("\n-- \nSluice sends this because notices.yaml in the release repository asks for it.\n")
	return b.String()
}

// Slack returns the body for an incoming webhook of Slack, or of what understands those. The text is for reading only:
// no mention, link or markup in it is obeyed. https://docs.slack.dev/messaging/formatting-message-text
func (d Digest) Slack() ([]byte, error) {
	var b strings.Builder
	for i, item := range d.Items {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s %s", item.Severity.mark(), escapeChat(item.Title))
		for _, line := range item.Lines {
			b.WriteString("\n    " + escapeChat(line))
		}
	}
	return json.Marshal(struct {
		Text        string `json:"text"`
		Markdown    bool   `json:"mrkdwn"`
		UnfurlLinks bool   `json:"unfurl_links"`
		UnfurlMedia bool   `json:"unfurl_media"`
	}{Text: b.String()})
}

// mark shows a severity by shape and word.
func (s Severity) mark() string {
	switch s {
	case Critical:
		return "■ critical:"
	case Warning:
		return "△ warning:"
	case Info:
	}
	return "○ info:"
}

// escapeChat returns text that chat programs show as it is: neither Slack's <…> nor the @channel and the links of those
// that read Markdown are obeyed.
func escapeChat(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "@"+zeroWidth, "](", "]"+zeroWidth+"(",
		"`", "'", "://", ":"+zeroWidth+"//").Replace(text)
}

// Teams returns the body for a workflow of Microsoft Teams: an Adaptive Card whose text is in runs, which obey no
// markup. https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-reference
func (d Digest) Teams() ([]byte, error) {
	type run struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Weight string `json:"weight,omitempty"`
		Color  string `json:"color,omitempty"`
	}
	type block struct {
		Type      string `json:"type"`
		Inlines   []run  `json:"inlines"`
		Separator bool   `json:"separator,omitempty"`
	}
	colours := map[Severity]string{Warning: "Warning", Critical: "Attention"}
	var body []block
	for i, item := range d.Items {
		body = append(body, block{Type: "RichTextBlock", Separator: i > 0, Inlines: []run{
			{Type: "TextRun", Text: item.Severity.mark() + " " + item.Title, Weight: "Bolder",
				Color: colours[item.Severity]}}})
		for _, line := range item.Lines {
			body = append(body, block{Type: "RichTextBlock", Inlines: []run{{Type: "TextRun", Text: line}}})
		}
	}
	type card struct {
		Schema  string  `json:"$schema"`
		Type    string  `json:"type"`
		Version string  `json:"version"`
		Body    []block `json:"body"`
	}
	type attachment struct {
		ContentType string  `json:"contentType"`
		ContentURL  *string `json:"contentUrl"`
		Content     card    `json:"content"`
	}
	return json.Marshal(struct {
		Type        string       `json:"type"`
		Attachments []attachment `json:"attachments"`
	}{"message", []attachment{{ContentType: "application/vnd.microsoft.card.adaptive", Content: card{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4", Body: body}}}})
}
