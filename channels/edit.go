package channels

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/releases/manifest"
)

// AddFreeze gives the policy with one freeze more, as `sluice freeze` commits it. Comments stay. Where there were
// freezes already, the YAML is written anew, so blank lines and line breaks may differ; else only lines are added.
func AddFreeze(channelYAML []byte, f Freeze) ([]byte, error) {
	if !f.From.Before(f.Until) {
		return nil, errors.New("add a freeze: it must end after it begins")
	}
	before, faults := manifest.Decode[Channel]("channel.yaml", channelYAML)
	if len(faults) > 0 {
		return nil, fmt.Errorf("add a freeze: mend the policy first: %s", faults[0])
	}
	edited, err := insertFreeze(channelYAML, f)
	if err != nil {
		return nil, fmt.Errorf("add a freeze: %w", err)
	}
	after, faults := manifest.Decode[Channel]("channel.yaml", edited)
	if len(faults) > 0 || len(after.Value.Freezes) != len(before.Value.Freezes)+1 {
		return nil, errors.New("add a freeze: the file is laid out in a way that can't be edited: add it by hand")
	}
	return edited, nil
}

func insertFreeze(text []byte, f Freeze) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	root := doc.Content[0]
	entry := freezeNode(f)
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "freezes" {
			continue
		}
		switch list := root.Content[i+1]; list.Kind {
		case yaml.SequenceNode:
			list.Content = append(list.Content, entry)
		default: // freezes: with nothing after it
			root.Content[i+1] = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{entry}}
		}
		return encode(&doc)
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Value: "freezes"}
	list := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{entry}}
	if root.Style&yaml.FlowStyle != 0 {
		root.Content = append(root.Content, key, list)
		return encode(&doc)
	}
	lines, err := encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, list}})
	if err != nil {
		return nil, err
	}
	text = append(bytes.TrimRight(text, "\n"), '\n')
	return append(text, lines...), nil
}

// freezeNode writes a freeze in one line, its instants as they are written elsewhere.
func freezeNode(f Freeze) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	add := func(key, value, tag string) {
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value})
	}
	add("from", f.From.Format(time.RFC3339), "!!timestamp")
	add("until", f.Until.Format(time.RFC3339), "!!timestamp")
	if f.Reason != "" {
		add("reason", f.Reason, "!!str")
	}
	return node
}

func encode(n *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(n), e.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
