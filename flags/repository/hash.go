package repository

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// Hash returns two hashes: of the announcement with the resolved definitions of all its features' flags, which
// approvals name (R42), and of the announcement alone. Each changes with every change of meaning and only then. Neither
// covers Cancelled and Archived, which take effect without approval.
func (t *Tree) Hash(a *Announcement) (hash, text string) {
	canonical, err := json.Marshal(a.canonical())
	if err != nil {
		panic(err) // impossible: the announcement consists of texts, numbers and bools
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

// flagKeys returns the keys of all flags of the announcement's features, sorted.
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

// canonical returns the announcement in the form that all equivalent ones share: defaults written out, sets sorted.
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

// sortedSet returns the names sorted and without duplicates, in a new slice that is never nil.
func sortedSet(names []string) []string {
	out := append([]string{}, names...)
	slices.Sort(out)
	return slices.Compact(out)
}
