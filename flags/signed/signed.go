// Package signed says whether a bundle of flags consists of what people signed. Signers sign the parts of bundles: each
// definition of a flag, and the terms of each announcement. Which parts a cell gets, and which instant the engine
// publishes at within the terms, changes without them, so bundles themselves are not signed.
//
// Make returns the parts of a flags repository, for signers. Check is what a cell does: it returns nil only for a
// bundle in which every flag is a signed definition, and every gate keeps to signed terms. What a bundle lacks is off,
// so the sender of bundles can withhold, and can't make up anything. Signatures themselves are verified elsewhere.
//
// The package is pure, and its functions may be called at once.
package signed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// Part is a part of bundles, as signers sign it.
type Part struct {
	Name   string          // flags/KEY or announcements/ID
	SHA256 string          // in hex: of the definition, or of the terms
	Length int64           // of the same, in bytes
	Custom json.RawMessage // a customFlag, or Terms
}

// How names of parts begin.
const (
	FlagPrefix         = "flags/"
	AnnouncementPrefix = "announcements/"
)

// customFlag is what a flag's part says beside its hash.
type customFlag struct {
	// SHA-256 of the definition fixed to its off variant; empty: it has none, and would lose its rules instead.
	Shut string `json:"shut,omitempty"`
}

// Terms are those of an announcement.
type Terms struct {
	Features []string            `json:"features"` // sorted
	By       string              `json:"by,omitempty"`
	Steps    []flags.GateStep    `json:"steps,omitempty"`
	Embargo  bool                `json:"embargo,omitempty"`
	Cells    repository.Selector `json:"cells,omitzero"`
	// From says by channel when it may begin, in Unix seconds; 0: as soon as a cell has the release. It begins in no
	// other channel.
	From map[string]int64 `json:"from"`
}

// Make returns the parts of a flags repository, by name. entries has all channels, and says which have no upstream.
func Make(t *repository.Tree, entries map[string]bool) ([]Part, error) {
	var parts []Part
	for _, key := range slices.Sorted(maps.Keys(t.Flags)) {
		d := t.Flags[key]
		raw, shut := d.Encode(), ""
		if d.Variants[d.Off()] != nil {
			shut = hexSum(d.Shut().Encode())
		}
		custom, err := json.Marshal(customFlag{shut})
		if err != nil {
			return nil, fmt.Errorf("flag %s: %w", key, err)
		}
		parts = append(parts, Part{FlagPrefix + key, hexSum(raw), int64(len(raw)), custom})
	}
	for _, id := range slices.Sorted(maps.Keys(t.Announcements)) {
		a := t.Announcements[id]
		if a.Cancelled != "" {
			continue
		}
		raw, err := json.Marshal(termsOf(a, entries))
		if err != nil {
			return nil, fmt.Errorf("announcement %s: %w", id, err)
		}
		parts = append(parts, Part{AnnouncementPrefix + id, hexSum(raw), int64(len(raw)), raw})
	}
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return parts, nil
}

func termsOf(a *repository.Announcement, entries map[string]bool) Terms {
	g := a.Gate()
	t := Terms{Features: append([]string{}, g.Features...), By: g.By, Steps: g.Steps, Embargo: g.Embargo,
		Cells: a.Cells, From: map[string]int64{}}
	for channel, entry := range entries {
		at, ready, never := a.When(channel, entry)
		switch {
		case never || at.IsZero() && !ready && !a.Now: // approved, not scheduled
		case at.IsZero():
			t.From[channel] = 0
		default:
			t.From[channel] = flags.Instant(at)
		}
	}
	return t
}

// hexSum returns the SHA-256 of JSON in the spelling that bundles have.
func hexSum(raw []byte) string {
	if compact, err := json.Marshal(json.RawMessage(raw)); err == nil {
		raw = compact
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Cell is the cell that gets a bundle.
type Cell struct {
	Name    string
	Channel string            // that it follows; empty: any
	Labels  map[string]string // as the control plane says
}

// Check returns why a cell may not use a bundle; nil: it consists of signed parts.
func Check(parts []Part, b *flags.Bundle, c Cell) error {
	if c.Channel != "" && b.Channel != c.Channel {
		return fmt.Errorf("the flags are those of channel %.100q, and this cell follows %s", b.Channel, c.Channel)
	}
	definitions, terms, err := index(parts)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(b.Flags)) {
		if !definitions[key][hexSum(b.Flags[key])] {
			return fmt.Errorf("the signers did not sign flag %.100q as the control plane sends it", key)
		}
	}
	for _, g := range b.Gates {
		if err := checkGate(terms[g.ID], g, b.Channel, c); err != nil {
			return fmt.Errorf("announcement %.100q: %w", g.ID, err)
		}
	}
	return nil
}

// index returns the hashes of each flag's signed definitions, and each announcement's signed terms.
func index(parts []Part) (definitions map[string]map[string]bool, terms map[string][]Terms, err error) {
	definitions, terms = map[string]map[string]bool{}, map[string][]Terms{}
	for _, p := range parts {
		if key, ok := strings.CutPrefix(p.Name, FlagPrefix); ok {
			var custom customFlag
			if err := json.Unmarshal(p.Custom, &custom); err != nil {
				return nil, nil, fmt.Errorf("what signers signed of flag %.100q can't be read: %w", key, err)
			}
			if definitions[key] == nil {
				definitions[key] = map[string]bool{}
			}
			definitions[key][p.SHA256] = true
			if custom.Shut != "" {
				definitions[key][custom.Shut] = true
			}
			continue
		}
		id, ok := strings.CutPrefix(p.Name, AnnouncementPrefix)
		if !ok {
			continue // of a later version
		}
		var t Terms
		if err := json.Unmarshal(p.Custom, &t); err != nil {
			return nil, nil, fmt.Errorf("what signers signed of announcement %.100q can't be read: %w", id, err)
		}
		terms[id] = append(terms[id], t)
	}
	return definitions, terms, nil
}

// checkGate returns why a gate keeps to none of the terms that were signed for its announcement.
func checkGate(signed []Terms, g flags.Gate, channel string, c Cell) error {
	err := errors.New("the signers did not sign it")
	for _, t := range signed {
		from, begins := t.From[channel]
		switch {
		case !slices.Equal(t.Features, g.Features) || t.By != g.By || t.Embargo != g.Embargo ||
			!slices.Equal(t.Steps, g.Steps):
			err = errors.New("the signers signed other features, another ramp or embargo")
		case !t.Cells.Selects(c.Name, channel, c.Labels):
			err = errors.New("the signers did not sign it for this cell")
		case !begins:
			err = fmt.Errorf("the signers did not sign it for channel %s", channel)
		case g.At < from:
			err = fmt.Errorf("it would begin before the time that was signed, %s",
				time.Unix(from, 0).UTC().Format(time.DateTime+"Z"))
		default:
			return nil
		}
	}
	return err
}
