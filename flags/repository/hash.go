package repository

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// Hash gives the hash of the announcement and of the resolved definitions of all its features' flags, which approvals
// name (R42), and of the announcement alone. Both change with every meaning and with nothing else. Neither covers Cancelled
// and Archived: they take effect without approval.
func (t *Tree) Hash(a *Announcement) (hash, text string) {
	canonical, err := json.Marshal(a.canonical())
	if err != nil {
		panic(err) // it has nothing but texts, numbers and bools
	}
	text = hashBytes(canonical)
	whole := slices.Concat([]byte(`{"announcement":`), canonical, []byte(`,"flags":{`))
	for i, key := range t.flagKeys(a) {
		if i > 0 {
			whole = append(whole, ',')
		}
		whole = append(jsondoc.AppendString(whole, key), ':')
		whole = append(whole, t.Flags[key].Encode()...)
	}
	return hashBytes(append(whole, "}}"...)), text
}

// flagKeys gives the keys of all flags of the announcement's features, sorted.
func (t *Tree) flagKeys(a *Announcement) (keys []string) {
	byFeature := t.keysByFeature
	if byFeature == nil { // not made by Load
		byFeature = groupByFeature(t.Flags)
	}
	for _, feature := range a.Features {
		keys = append(keys, byFeature[feature]...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func groupByFeature(flags map[string]*flags.Definition) map[string][]string {
	byFeature := map[string][]string{}
	for key, d := range flags {
		if feature := d.Feature(); feature != "" {
			byFeature[feature] = append(byFeature[feature], key)
		}
	}
	return byFeature
}

// canonical gives the announcement in the one form of all that mean the same: defaults written out, lists that are sets sorted.
func (a *Announcement) canonical() *Announcement {
	m := *a
	m.Cancelled, m.Archived = "", false
	m.Zone = a.Location().String()
	m.Features = sortedSet(a.Features)
	m.Cells.Names, m.Cells.Channels = sortedSet(a.Cells.Names), sortedSet(a.Cells.Channels)
	if len(m.Ramp.Steps) == 0 {
		m.Ramp = Ramp{}
	} else if m.Ramp.By == "" {
		m.Ramp.By = flags.ByUser
	}
	if m.WhenNotReady.Mode == "" {
		m.WhenNotReady.Mode = wait
	}
	if a.Approvals != nil {
		m.Approvals = &ApprovalRule{Count: a.Approvals.Count, From: sortedSet(a.Approvals.From)}
	}
	return &m
}

func hashBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// sortedSet gives the names sorted, each once, in a slice of its own that is never nil.
func sortedSet(names []string) []string {
	out := append([]string{}, names...)
	slices.Sort(out)
	return slices.Compact(out)
}
