package trial

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// Variant is one way in which a release is rendered.
type Variant struct {
	Profile string
	Values  map[string]any // from the repository
	Own     map[string]any // stand-ins for what cells' owners set
	Cells   []string       // that have this profile and these values; none: defaults, and stand-ins
}

// Variants returns the ways in which cells render a release: each profile with the values of each cell that can take
// it, once. A profile that no such cell has is rendered with the defaults; so is the release's own folder, if it has a
// kustomization (hasRoot), since that is the profile of cells that name none. unfit are the cells that can't take the
// release as their values are, with the reasons; bare are the profiles that can't be rendered without a cell's values.
func Variants(r *releases.Release, hasRoot bool, all []*plan.Cell) (variants []Variant, unfit map[string][]string,
	bare []string) {
	unfit = map[string][]string{}
	own, lacking := standIns(r, true)
	complete := lacking == ""
	byKey := map[string]int{}
	done := map[string]bool{} // profiles with a variant
	for _, c := range all {
		wrong := releases.CheckValues(r, c.Values)
		if _, ok := r.Profile(c.Profile); !ok {
			wrong = append(wrong, "the release has no profile "+c.Profile)
		}
		if len(wrong) > 0 {
			unfit[c.Name] = wrong
			continue
		}
		if !complete {
			continue
		}
		key, err := json.Marshal([]any{c.Profile, c.Values})
		if err != nil {
			continue // never: values come from YAML
		}
		i, ok := byKey[string(key)]
		if !ok {
			i = len(variants)
			byKey[string(key)] = i
			variants = append(variants, Variant{Profile: c.Profile, Values: c.Values, Own: own})
			done[profileName(c.Profile)] = true
		}
		variants[i].Cells = append(variants[i].Cells, c.Name)
	}
	values, unknown := standIns(r, false)
	profiles := slices.Sorted(maps.Keys(r.Profiles))
	if !slices.Contains(profiles, "default") && (hasRoot || len(profiles) == 0) {
		profiles = append(profiles, "default")
	}
	for _, p := range profiles {
		switch {
		case done[p]:
		case unknown != "" || !complete:
			bare = append(bare, p)
		default:
			variants = append(variants, Variant{Profile: p, Values: values, Own: own})
		}
	}
	return variants, unfit, bare
}

// Label returns a short name of the variant: its first cell, or its profile.
func (v *Variant) Label() string {
	if len(v.Cells) > 0 {
		return v.Cells[0]
	}
	return profileName(v.Profile)
}

// profileName returns the name of a profile that a cell may leave out.
func profileName(p string) string {
	if p == "" {
		return "default"
	}
	return p
}

// OwnersLacking returns a parameter that cells' owners have to set and for which no value can be made up; empty: none.
func OwnersLacking(r *releases.Release) string {
	_, lacking := standIns(r, true)
	return lacking
}

// standIns returns made-up values of the required parameters that cells' owners set, or that the repository does, or
// the first of these parameters that takes none.
func standIns(r *releases.Release, owners bool) (values map[string]any, lacking string) {
	values = map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		p := r.Parameters[name]
		if !p.Required || (p.Owner == releases.OwnerCell) != owners {
			continue
		}
		v := p.StandIn()
		if v == nil {
			return nil, name
		}
		values[name] = v
	}
	if len(values) == 0 {
		return nil, ""
	}
	return values, ""
}
