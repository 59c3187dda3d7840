package trust

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/jsondoc"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// valuesMap is the ConfigMap with a cell's values, from which a release's replacements take them.
const valuesMap = "sluice-values"

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
// the release's replacements, in an image, a command, a URL or a subject of RBAC. Whoever takes the control plane over
// could set it; a parameter with an enum, or one that the cell owns, leaves nothing to choose.
func CheckParameters(files fs.FS, dir string, parameters map[string]releases.Parameter) (faults []manifest.Fault) {
	open := map[string]bool{}
	for name, p := range parameters {
		open[name] = p.Type == "string" && p.Owner != releases.OwnerCell && len(p.Enum) == 0
	}
	maps.DeleteFunc(open, func(_ string, is bool) bool { return !is })
	if len(open) == 0 {
		return nil
	}
	c := parameterChecker{files: files, dir: dir, open: open}
	err := fs.WalkDir(files, dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && releases.IsKustomization(name) {
			c.readKustomization(name)
		}
		return nil // what can't be read is a fault of the release already
	})
	if err != nil {
		return nil
	}
	return manifest.Sort(c.faults)
}

type parameterChecker struct {
	files  fs.FS
	dir    string
	open   map[string]bool // parameters that the vendor may set to any text
	faults []manifest.Fault
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
	for _, r := range list(member(c.decode(name), "replacements")) {
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
	if text(source, "name") != valuesMap {
		return
	}
	name, ok := strings.CutPrefix(text(source, "fieldPath"), "data.")
	if name = strings.Trim(name, "[]"); !ok || !c.open[name] {
		return
	}
	for _, target := range list(member(r, "targets")) {
		kind := text(member(target, "select"), "kind")
		for _, p := range list(member(target, "fieldPaths")) {
			field, _ := p.Value.(string)
			what := ""
			switch {
			case imagePath().MatchString(field):
				what = "an image"
			case commandPath().MatchString(field):
				what = "a command"
			case kind == "RoleBinding" || kind == "ClusterRoleBinding" || subjectPath().MatchString(field):
				what = "a subject of RBAC"
			case addressPath().MatchString(field):
				what = "a URL"
			default:
				continue
			}
			c.faults = append(c.faults, manifest.Fault{File: at, Line: p.Line, Code: manifest.Unprotected,
				Message: fmt.Sprintf("parameter %s ends in %s (%s), and signers do not sign values: give it an enum, or "+
					"owner: cell", name, what, field)})
		}
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
