package flags

import (
	"encoding/json"
	"fmt"
)

// ParseDocument reads the output of Document, for a program that follows its cell's agent, as of an instant in Unix
// seconds. The agent has decided gates and facts already, so no flag is gated any more. The limits are those of a
// bundle.
func ParseDocument(data []byte, at int64) (*Folded, error) {
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("read flags: %d bytes: at most %d are read", len(data), MaxBundle)
	}
	var document struct {
		Flags json.RawMessage `json:"flags"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	b := Bundle{Version: BundleVersion, Flags: map[string]json.RawMessage{}}
	err := eachMember(document.Flags, '{', MaxFlags, func(key string, value json.RawMessage) error {
		b.Flags[key] = value
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	c, err := b.compile(false)
	if err != nil {
		return nil, err
	}
	return c.Fold(Orders{}, Facts{}, at), nil
}
