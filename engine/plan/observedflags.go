package plan

import (
	"maps"
	"slices"
)

// FlagsSeen is what gates and decisions see of flags.
type FlagsSeen struct {
	Commit    string              `json:"commit"`
	Killed    []string            `json:"killed,omitempty"`    // flags, sorted
	Published map[string][]string `json:"published,omitempty"` // features that are published, sorted, by channel
}

func (s *FlagsSeen) Equal(other *FlagsSeen) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.Commit == other.Commit && slices.Equal(s.Killed, other.Killed) && maps.EqualFunc(s.Published, other.Published, slices.Equal)
}
