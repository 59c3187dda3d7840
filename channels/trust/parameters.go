package trust

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// What a value may decide: signers do not sign values, so none should decide what runs, or for whom.
var (
	imagePath   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)(^|\.)images?$`) })
	commandPath = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(^|\.)(command|args|entrypoint)(\.|$)`)
	})
	addressPath = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(url|uri|endpoint)(\]?\.(value|data))?$`)
	})
	subjectPath = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(^|\.)(subjects|roleRef|serviceAccount|serviceAccountName)(\.|$)`)
	})
)

// CheckParameters returns a fault for each parameter of a release that the vendor sets to any text and that ends, by
// the release's replacements, in an image, a command, a URL or a subject of RBAC, on whatever way, or that a var puts
// anywhere. Whoever takes the control plane over could set it; a parameter with an enum, or one that the cell owns,
// leaves nothing to choose.
func CheckParameters(files fs.FS, dir string, parameters map[string]releases.Parameter) (faults []manifest.Fault) {
	c := parameterChecker{files: files, dir: dir}
	var open []string
	for name, p := range parameters {
		if p.Type == "string" && p.Owner != releases.OwnerCell && len(p.Enum) == 0 {
			open = append(open, name)
		}
	}
	if len(open) == 0 {
		return nil
	}
	err := fs.WalkDir(files, dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && releases.IsKustomization(name) {
			c.readKustomization(name)
		}
		return nil // what can't be read is a fault of the release already
	})
	if err != nil {
		return nil
	}
	slices.Sort(open)
	c.follow(open)
	return manifest.Sort(c.faults)
}

type parameterChecker struct {
	files  fs.FS
	dir    string
	flows  []*flow
	isFull bool
	faults []manifest.Fault
}

// flow is a replacement or a var of a release: from a field of an object into others.
type flow struct {
	from      place
	to        []place // of a replacement
	variable  string  // of a var: its name
	file      string
	line      int
	parameter string // that flows here; empty: none is known to
}

// place is a field of the objects that have a kind and a name; empty: any.
type place struct {
	kind, name string
	field      string
	path       []string // of field, see splitField
	line       int
}

var parameterLimits = manifest.FreeFormLimits{Entries: 10_000, Limits: jsondoc.Limits{Depth: 50, Text: 64 << 10}}

func (c *parameterChecker) decode(name string) jsondoc.Node {
	info, err := fs.Stat(c.files, name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > manifest.MaxFile {
		return jsondoc.Node{}
	}
	data, err := fs.ReadFile(c.files, name)
	if err != nil {
		return jsondoc.Node{}
	}
	root, _ := manifest.DecodeFreeForm(name, data, parameterLimits) // the scan of the release tells its faults
	return root
}

func (c *parameterChecker) readKustomization(name string) {
	root := c.decode(name)
	for _, v := range list(member(root, "vars")) {
		at := placeOf(member(v, "objref"), text(member(v, "fieldref"), "fieldpath"), v.Line)
		c.add(&flow{from: at, variable: text(v, "name"), file: name, line: v.Line})
	}
	for _, r := range list(member(root, "replacements")) {
		at := name
		if file, ok := member(r, "path").Value.(string); ok && file != "" {
			at = path.Join(path.Dir(name), file)
			if !strings.HasPrefix(at, c.dir+"/") {
				continue // it leads out of the release, which is a fault already
			}
			root := c.decode(at)
			for _, one := range append(list(root), root) {
				c.readReplacement(at, one)
			}
			continue
		}
		c.readReplacement(at, r)
	}
}

func (c *parameterChecker) readReplacement(at string, r jsondoc.Node) {
	source := member(r, "source")
	f := &flow{from: placeOf(source, text(source, "fieldPath"), r.Line), file: at, line: r.Line}
	for _, target := range list(member(r, "targets")) {
		for _, p := range list(member(target, "fieldPaths")) {
			field, _ := p.Value.(string)
			f.to = append(f.to, placeOf(member(target, "select"), field, p.Line))
		}
	}
	if len(f.to) > 0 {
		c.add(f)
	}
}

// maxFlows bounds the replacements and vars that are followed in one release.
const maxFlows = 1000

func (c *parameterChecker) add(f *flow) {
	switch n := len(c.flows); {
	case n < maxFlows:
		c.flows = append(c.flows, f)
	case !c.isFull:
		c.isFull = true
		c.faults = append(c.faults, manifest.Fault{File: f.file, Line: f.line, Code: manifest.TooLarge,
			Message: fmt.Sprintf("the release has more than %d replacements and vars: where unsigned values end is not "+
				"known", maxFlows)})
	}
}

// follow finds where parameters end. Names of objects change on the way, by prefixes and patches, so any ConfigMap with
// a key like a parameter is taken for the one with the cell's values.
func (c *parameterChecker) follow(open []string) {
	var queue []*flow
	reach := func(at place, parameter string) {
		for _, f := range c.flows {
			if f.parameter == "" && f.from.meets(at) {
				f.parameter = parameter
				queue = append(queue, f)
			}
		}
	}
	for _, name := range open {
		reach(place{kind: "ConfigMap", path: []string{"data", name}}, name)
	}
	for ; len(queue) > 0; queue = queue[1:] {
		f := queue[0]
		c.judge(f)
		for _, to := range f.to {
			reach(to, f.parameter)
		}
	}
}

// meets reports whether two places may be the same field of one object, or one be within the other.
func (p place) meets(other place) bool {
	if p.kind != "" && other.kind != "" && p.kind != other.kind ||
		!strings.Contains(p.name, other.name) && !strings.Contains(other.name, p.name) { // one may lack a prefix yet
		return false
	}
	for i := range min(len(p.path), len(other.path)) {
		if a, b := p.path[i], other.path[i]; a != b && a != anyEntry && b != anyEntry {
			return false
		}
	}
	return true
}

func placeOf(object jsondoc.Node, field string, line int) place {
	if field == "" {
		field = "metadata.name" // as kustomize takes it
	}
	return place{text(object, "kind"), text(object, "name"), field, splitField(field), line}
}

// anyEntry stands for an entry of a list, however a path names it.
const anyEntry = "*"

// splitField splits a path as kustomize does: at dots, but for those in brackets and those after a backslash.
func splitField(field string) (parts []string) {
	part, depth := "", 0
	end := func() {
		switch inner, bracketed := strings.CutPrefix(part, "["); {
		case bracketed && strings.Contains(inner, "="), part == "-",
			part != "" && strings.Trim(part, "0123456789") == "":
			part = anyEntry
		case bracketed:
			part = strings.TrimSuffix(inner, "]")
		}
		parts, part = append(parts, part), ""
	}
	for i := 0; i < len(field); i++ {
		switch b := field[i]; {
		case b == '\\' && i+1 < len(field) && field[i+1] == '.':
			part, i = part+".", i+1
			continue
		case b == '.' && depth == 0:
			end()
			continue
		case b == '[':
			depth++
		case b == ']' && depth > 0:
			depth--
		}
		part += field[i : i+1]
	}
	end()
	return parts
}

// judge finds what a parameter decides where it flows.
func (c *parameterChecker) judge(f *flow) {
	fault := func(line int, ends string) {
		c.faults = append(c.faults, manifest.Fault{File: f.file, Line: line, Code: manifest.Unprotected,
			Message: fmt.Sprintf("parameter %s ends %s, and signers do not sign values: give it an enum, or owner: cell",
				f.parameter, ends)})
	}
	if f.variable != "" {
		fault(f.line, "wherever $("+f.variable+") stands")
	}
	for _, to := range f.to {
		what := ""
		switch {
		case imagePath().MatchString(to.field):
			what = "an image"
		case commandPath().MatchString(to.field):
			what = "a command"
		case to.kind == "RoleBinding" || to.kind == "ClusterRoleBinding" || subjectPath().MatchString(to.field):
			what = "a subject of RBAC"
		case addressPath().MatchString(to.field):
			what = "a URL"
		default:
			continue
		}
		fault(to.line, fmt.Sprintf("in %s (%s)", what, to.field))
	}
}

func member(n jsondoc.Node, key string) jsondoc.Node {
	members, _ := n.Value.(jsondoc.Members)
	if m := members.Get(key); m != nil {
		return m.Node
	}
	return jsondoc.Node{}
}

func text(n jsondoc.Node, key string) string {
	s, _ := member(n, key).Value.(string)
	return s
}

func list(n jsondoc.Node) []jsondoc.Node {
	all, _ := n.Value.([]jsondoc.Node)
	return all
}
