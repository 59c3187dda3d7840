package flags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Limits of a bundle. A bundle beyond a limit is refused whole, and the cell keeps the one it has.
const (
	MaxBundle = 32 << 20 // bytes
	MaxFlags  = 20_000
	MaxGates  = 10_000

	MaxGateFeatures = 1_000
	MaxInstant      = 253_402_300_799   // 9999-12-31T23:59:59Z
	MaxAfter        = 10 * 366 * 86_400 // seconds

	maxGate      = 1 << 20 // bytes
	maxGateSteps = 101     // one for each percent
	maxName      = 256     // bytes of an ID, a feature or a channel
)

// Encode returns the bundle's canonical form: equal bundles have equal bytes, whatever the order of gates and names. It
// returns nil if a flag is not JSON, which Definition.Encode never returns.
func (b *Bundle) Encode() []byte {
	sorted := *b
	if sorted.Flags == nil {
		sorted.Flags = map[string]json.RawMessage{}
	}
	sorted.Gates = make([]Gate, len(b.Gates))
	for i, g := range b.Gates {
		g.Features = sortedSet(g.Features)
		sorted.Gates[i] = g
	}
	slices.SortFunc(sorted.Gates, func(x, y Gate) int { return bytes.Compare([]byte(x.ID), []byte(y.ID)) })
	sorted.Hidden = sortedSet(b.Hidden)
	raw, err := json.Marshal(&sorted)
	if err != nil {
		return nil
	}
	return raw
}

// sortedSet returns the names sorted and without duplicates, in a new slice that is never nil.
func sortedSet(names []string) []string {
	out := append([]string{}, names...)
	slices.Sort(out)
	return slices.Compact(out)
}

// ParseBundle reads the output of Encode and nothing else: another spelling of the same bundle, an unknown field or an
// exceeded limit is an error. Compile reads the flags themselves. Memory use is in proportion to the input.
func ParseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("bundle of flags has %d bytes, more than %d", len(raw), MaxBundle)
	}
	b, err := decodeBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("read bundle of flags: %w", err)
	}
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("bundle of flags: %w", err)
	}
	if !bytes.Equal(b.Encode(), raw) { // refuses duplicate keys, and fields in another case
		return nil, errors.New("bundle of flags is not in canonical form")
	}
	return b, nil
}

func decodeBundle(raw []byte) (*Bundle, error) {
	var outer struct {
		Version int             `json:"version"`
		Channel string          `json:"channel"`
		Flags   json.RawMessage `json:"flags"`
		Gates   json.RawMessage `json:"gates"`
		Hidden  json.RawMessage `json:"hidden"`
	}
	if err := decodeStrict(raw, &outer); err != nil {
		return nil, err
	}
	if outer.Version != BundleVersion {
		return nil, fmt.Errorf("version %d is unknown: this agent reads version %d", outer.Version, BundleVersion)
	}
	b := &Bundle{Version: outer.Version, Channel: outer.Channel, Flags: map[string]json.RawMessage{}}
	err := eachMember(outer.Flags, '{', MaxFlags, func(key string, value json.RawMessage) error {
		b.Flags[key] = value
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	err = eachMember(outer.Gates, '[', MaxGates, func(_ string, value json.RawMessage) error {
		b.Gates = append(b.Gates, Gate{})
		if len(value) > maxGate {
			return fmt.Errorf("gate %d has %d bytes, more than %d", len(b.Gates), len(value), maxGate)
		}
		return decodeStrict(value, &b.Gates[len(b.Gates)-1])
	})
	if err != nil {
		return nil, fmt.Errorf("gates: %w", err)
	}
	if len(outer.Hidden) > 0 {
		err = eachMember(outer.Hidden, '[', MaxFlags, func(_ string, value json.RawMessage) error {
			b.Hidden = append(b.Hidden, "")
			return json.Unmarshal(value, &b.Hidden[len(b.Hidden)-1])
		})
	}
	if err != nil {
		return nil, fmt.Errorf("hidden: %w", err)
	}
	return b, nil
}

// decodeStrict decodes one JSON value into v, without unknown fields and without anything after the value.
func decodeStrict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.InputOffset() != int64(len(raw)) {
		return errors.New("more data follows it")
	}
	return nil
}

// eachMember calls each for every member of a JSON object or array, at most limit times.
func eachMember(raw []byte, open json.Delim, limit int, each func(key string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != open {
		return fmt.Errorf("must begin with %s", open)
	}
	for n := 1; dec.More(); n++ {
		if n > limit {
			return fmt.Errorf("more than %d", limit)
		}
		var key string
		if open == '{' {
			t, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ = t.(string)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if err := each(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) validate() error {
	switch {
	case !isValidName(b.Channel):
		return errors.New("the channel is missing or too long")
	case slices.ContainsFunc(b.Hidden, func(f string) bool { return !isValidName(f) }):
		return errors.New("the name of a hidden feature is missing or too long")
	}
	for i, g := range b.Gates {
		if err := g.validate(); err != nil {
			return fmt.Errorf("gate %.40q: %w", g.ID, err)
		}
		if i > 0 && b.Gates[i-1].ID == g.ID {
			return fmt.Errorf("gate %.40q occurs twice", g.ID)
		}
	}
	return nil
}

func (g *Gate) validate() error {
	switch {
	case !isValidName(g.ID):
		return errors.New("the ID is missing or too long")
	case len(g.Features) > MaxGateFeatures:
		return fmt.Errorf("%d features, more than %d", len(g.Features), MaxGateFeatures)
	case slices.ContainsFunc(g.Features, func(f string) bool { return !isValidName(f) }):
		return errors.New("the name of a feature is missing or too long")
	case g.At < 0 || g.At > MaxInstant:
		return fmt.Errorf("time %d is out of range", g.At)
	case g.By != "" && g.By != ByUser && g.By != ByCell:
		return fmt.Errorf("a ramp by %.40q, which is neither %s nor %s", g.By, ByUser, ByCell)
	case len(g.Steps) > maxGateSteps:
		return fmt.Errorf("%d steps, more than %d", len(g.Steps), maxGateSteps)
	}
	last := GateStep{Percent: -1, After: -1}
	for _, s := range g.Steps {
		if s.Percent < 0 || s.Percent > 100 || s.After < 0 || s.After > MaxAfter {
			return fmt.Errorf("step of %d %% after %d s is out of range", s.Percent, s.After)
		}
		if s.Percent < last.Percent || s.After <= last.After {
			return errors.New("the steps don't grow")
		}
		last = s
	}
	return nil
}

func isValidName(s string) bool { return s != "" && len(s) <= maxName }
