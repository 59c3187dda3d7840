package flags

import (
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// Kill is what a killed flag gives.
type Kill struct {
	Definition *Definition
	// Gives says in words what callers get from a flag that a kill can't turn off; empty: the flag is off for all.
	Gives string
}

// Kill returns what the flag gives while it is killed (R43): its off variant or, without one, its default variant
// without rules. A kill turns a flag on for nobody: the rules of a flag whose default is on stay, if they may choose a
// variant that is off. A disabled flag without an off variant stays disabled.
func (d *Definition) Kill() Kill {
	killed := *d
	_, hasDefault := d.Variants[d.DefaultVariant]
	switch off := d.Off(); {
	case d.Variants[off] != nil:
		killed.DefaultVariant, killed.Disabled, killed.Targeting = off, false, nil
		return Kill{Definition: &killed}
	case d.Disabled:
		return Kill{&killed, "it is disabled, and has no off variant: callers get the default in their code"}
	case hasDefault && d.isOff(d.DefaultVariant):
		killed.Targeting = nil
		return Kill{Definition: &killed}
	}
	gives := "callers get the default in their code"
	if hasDefault {
		gives = "everybody gets its default, " + jsondoc.Clip(d.DefaultVariant)
	}
	if len(d.Targeting) > 0 && slices.ContainsFunc(slices.Collect(maps.Keys(d.Variants)), d.isOff) {
		return Kill{&killed, "it has no off variant, and its rules stay, which may be off for some; elsewhere " + gives}
	}
	killed.Targeting = nil
	return Kill{&killed, "it has no off variant: " + gives}
}

// IsSwitch reports whether a variant is true or false, or off: people will want to turn such a flag off.
func (d *Definition) IsSwitch() bool {
	for name, value := range d.Variants {
		if _, ok := value.(bool); ok || d.isOff(name) {
			return true
		}
	}
	return false
}

// isOff reports whether a variant is off by its value or its name, without being named by metadata.off.
func (d *Definition) isOff(variant string) bool {
	switch v := d.Variants[variant].(type) {
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == "" || v == "off"
	}
	return variant == "off"
}
