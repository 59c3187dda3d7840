package channels

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// AddFreeze gives the policy with one freeze more, as `sluice freeze` commits it: to the second. All other text stays
// as it is, comments and spacing included.
func AddFreeze(channelYAML []byte, f Freeze) ([]byte, error) {
	f.From, f.Until = f.From.Truncate(time.Second), f.Until.Truncate(time.Second)
	if !f.From.Before(f.Until) {
		return nil, errors.New("add a freeze: it must end after it begins")
	}
	if !utf8.ValidString(f.Reason) {
		return nil, errors.New("add a freeze: its reason is not valid UTF-8")
	}
	before, faults := manifest.Decode[Channel]("channel.yaml", channelYAML)
	if len(faults) > 0 {
		return nil, fmt.Errorf("add a freeze: mend the policy first: %s", faults[0])
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(channelYAML, &doc); err != nil {
		return nil, fmt.Errorf("add a freeze: %w", err)
	}
	for _, edited := range withFreeze(strings.SplitAfter(string(channelYAML), "\n"), doc.Content[0], freezeText(f)) {
		after, faults := manifest.Decode[Channel]("channel.yaml", []byte(edited))
		if len(faults) == 0 && addsOnly(before.Value, after.Value, f) {
			return []byte(edited), nil
		}
	}
	return nil, errors.New("add a freeze: the file is laid out in a way that can't be edited: add it by hand")
}

// freezeText writes a freeze in one line.
func freezeText(f Freeze) string {
	s := "{from: " + f.From.Format(time.RFC3339) + ", until: " + f.Until.Format(time.RFC3339)
	if f.Reason != "" {
		s += ", reason: " + strconv.Quote(f.Reason) // Go's escapes are YAML's too
	}
	return s + "}"
}

// withFreeze gives texts that have the entry at a place where it most likely belongs, the best first.
func withFreeze(lines []string, root *yaml.Node, entry string) []string {
	var list *yaml.Node
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "freezes" {
			list = root.Content[i+1]
			if list.Kind != yaml.SequenceNode { // freezes: with nothing after it
				return []string{insertLine(lines, root.Content[i].Line, "  - "+entry)}
			}
		}
	}
	switch {
	case list == nil && root.Style&yaml.FlowStyle != 0:
		return []string{insertAfter(lines, root, "freezes: ["+entry+"], ")}
	case list == nil:
		return []string{insertLine(lines, len(lines), "freezes:\n  - "+entry)}
	case list.Style&yaml.FlowStyle != 0 && len(list.Content) == 0:
		return []string{insertAfter(lines, list, entry)}
	case list.Style&yaml.FlowStyle != 0:
		return []string{insertAfter(lines, list, entry+", ")}
	}
	item := strings.Repeat(" ", list.Column-1) + "- " + entry
	return []string{insertLine(lines, lastLine(list), item), insertLine(lines, list.Line-1, item)}
}

// lastLine gives the last line on which n or something in it begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// insertLine puts text on lines of its own, after the first n.
func insertLine(lines []string, n int, text string) string {
	head := strings.Join(lines[:n], "")
	if head != "" && !strings.HasSuffix(head, "\n") {
		head += "\n"
	}
	return head + text + "\n" + strings.Join(lines[n:], "")
}

// insertAfter puts text after the bracket with which a list or mapping in brackets begins.
func insertAfter(lines []string, n *yaml.Node, text string) string {
	lines = slices.Clone(lines)
	line := []rune(lines[n.Line-1])
	lines[n.Line-1] = string(line[:n.Column]) + text + string(line[n.Column:])
	return strings.Join(lines, "")
}

// addsOnly tells whether after is before with f and no other difference.
func addsOnly(before, after Channel, f Freeze) bool {
	same := func(a, b Freeze) bool { return a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Reason == b.Reason }
	i := slices.IndexFunc(after.Freezes, func(g Freeze) bool { return same(f, g) })
	if i < 0 || !slices.EqualFunc(slices.Delete(slices.Clone(after.Freezes), i, i+1), before.Freezes, same) {
		return false
	}
	before.Freezes, after.Freezes = nil, nil
	return reflect.DeepEqual(before, after)
}
