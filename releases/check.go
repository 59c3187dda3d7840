package releases

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// parameterName matches the names that a parameter may have: keys of a ConfigMap, so that manifests can refer to them.
var parameterName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
})

// validateRelease returns the faults of a decoded release.yaml. t is the release's folder.
func validateRelease(d *manifest.Doc[Release], t *releaseTree) []Fault {
	c := releaseValidator{d, t, nil}
	c.validateComponents()
	c.validateUnique("features", d.Value.Features)
	c.validateUnique("fixes", d.Value.Fixes)
	c.validateRequires()
	for _, name := range slices.Sorted(maps.Keys(d.Value.Parameters)) {
		c.validateParameter(name, d.Value.Parameters[name])
	}
	c.validateProfiles()
	c.validateKubernetes()
	for _, wrong := range d.Value.Maintenance.Check() {
		c.addFault(manifest.WrongValue, "maintenance."+wrong.At, "%s", wrong.Reason)
	}
	return c.faults
}

// CheckEmpty returns a fault for each field of a release's release.yaml that is there without a value, where that is
// not the same as leaving it out. Load returns none of them, so that no release that cells run becomes invalid.
func CheckEmpty(fsys fs.FS, v Version) (faults []Fault) {
	file := path.Join(Dir, v.String(), releaseFile)
	_, _ = manifest.Load(nil, fsys, file, func(d *manifest.Doc[Release]) []Fault {
		faults = d.RefuseEmpty()
		return nil
	})
	return faults
}

type releaseValidator struct {
	doc    *manifest.Doc[Release]
	tree   *releaseTree
	faults []Fault
}

func (c *releaseValidator) addFault(code manifest.FaultCode, at, format string, args ...any) {
	c.faults = append(c.faults, c.doc.Fault(code, at, format, args...))
}

func (c *releaseValidator) addWarning(code manifest.FaultCode, at, format string, args ...any) {
	c.faults = append(c.faults, c.doc.Warning(code, at, format, args...))
}

func (c *releaseValidator) validateComponents() {
	var names []string
	for i, comp := range c.doc.Value.Components {
		at := fmt.Sprintf("components[%d]", i)
		if slices.Contains(names, comp.Name) {
			c.addFault(manifest.Duplicate, at+".name", "component %s is there twice", comp.Name)
		}
		names = append(names, comp.Name)
		_, digest, ok := strings.Cut(comp.Image, "@")
		if !ok {
			c.addWarning(manifest.Missing, at+".image",
				"image %s has no digest: what soaks may not be what ships", comp.Image)
		} else if _, err := ParseDigest(digest); err != nil {
			c.addFault(manifest.WrongValue, at+".image", "image %s: %v", comp.Image, err)
		}
	}
}

func (c *releaseValidator) validateUnique(field string, values []string) {
	for i, v := range values {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case v == "":
			c.addFault(manifest.Missing, at, "an entry of %s is empty", field)
		case slices.Contains(values[:i], v):
			c.addFault(manifest.Duplicate, at, "%s is there twice", v)
		}
	}
}

func (c *releaseValidator) validateRequires() {
	r := c.doc.Value.Requires
	if r.Infrastructure < 0 {
		c.addFault(manifest.WrongValue, "requires.infrastructure",
			"requires.infrastructure is a template's number, not %d", r.Infrastructure)
	}
	if c.doc.Value.Version.Less(r.From) {
		c.addFault(manifest.Conflict, "requires.from",
			"requires.from is %s, greater than the release: no cell could install it", r.From)
	}
}

func (c *releaseValidator) validateParameter(name string, p Parameter) {
	at := "parameters[" + name + "]"
	if !parameterName().MatchString(name) {
		c.addFault(manifest.WrongName, at,
			"%q can't be a parameter's name: it takes at most 63 letters, digits, -, _ and ., and begins with a letter",
			name)
	}
	numeric := p.Type == "integer" || p.Type == "number"
	if !numeric && (p.Minimum != nil || p.Maximum != nil) {
		c.addFault(manifest.Conflict, at,
			"parameter %s: minimum and maximum are for integer and number, not %s", name, p.Type)
	}
	if p.Type != "string" && (p.Pattern != "" || p.Enum != nil) {
		c.addFault(manifest.Conflict, at, "parameter %s: pattern and enum are for string, not %s", name, p.Type)
	}
	if p.Minimum != nil && p.Maximum != nil && *p.Minimum > *p.Maximum {
		c.addFault(manifest.Conflict, at, "parameter %s: minimum %v is above maximum %v", name, *p.Minimum, *p.Maximum)
	}
	if p.Pattern != "" {
		p.compiled = sync.OnceValues(p.compilePattern)
		if _, err := p.compiled(); err != nil {
			c.addFault(manifest.WrongValue, at+".pattern", "parameter %s: pattern: %v", name, err)
			return
		}
		c.doc.Value.Parameters[name] = p
	}
	if p.Default == nil {
		return
	}
	if p.Required {
		c.addWarning(manifest.Unused, at+".default", "parameter %s is required: its default is never used", name)
	}
	if _, why := p.normaliseValue(p.Default); why != "" {
		c.addFault(manifest.WrongValue, at+".default", "parameter %s: its default %s", name, why)
	}
}

func (c *releaseValidator) validateProfiles() {
	profiles := c.doc.Value.Profiles
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		dir, at := profiles[name], "profiles["+name+"]"
		clean := path.Clean(dir)
		switch {
		case !manifest.IsLabel(name):
			c.addFault(manifest.WrongName, at,
				"%q can't be a profile's name: it takes at most 63 lower-case letters, digits and -", name)
		case dir == "" || path.IsAbs(dir) || clean == ".." || strings.HasPrefix(clean, "../") ||
			strings.Contains(dir, "\\"):
			c.addFault(manifest.WrongValue, at, "profile %s: %q is not a folder of the release", name, dir)
		case !c.tree.hasEntry(clean, true):
			c.addFault(manifest.UnknownReference, at, "profile %s: there is no folder %s in the release", name, dir)
		case !c.tree.hasKustomization(clean):
			c.addFault(manifest.UnknownReference, at, "profile %s: folder %s has no kustomization.yaml", name, dir)
		}
	}
	if _, ok := profiles["default"]; ok || c.tree.hasKustomization(".") {
		return
	}
	if len(profiles) == 0 {
		c.addFault(manifest.Missing, "",
			"the release has no kustomization.yaml beside it, and names no profiles that have one")
	} else {
		c.addWarning(manifest.Missing, "profiles", "there is no default profile: every cell has to name one")
	}
}
