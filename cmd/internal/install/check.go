package install

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
	"github.com/sluice-cd/sluice/internal/manifest"
)

var imageName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`)
})

// ValidName reports whether a cluster takes a name for a namespace.
func ValidName(name string) bool { return manifest.IsLabel(name) }

// AddFlags adds the flags of an agent in a cluster.
func (i *Agent) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&i.Image, "image", "", "`IMAGE` with sluice-agent, or with sluice")
	f.StringVar(&i.Namespace, "namespace", "sluice", "`NAMESPACE` of the agent itself")
	f.StringArrayVar(&i.For, "for", nil, "`NAMESPACE` that releases go into, which is there; may be repeated; objects "+
		"that name none go into the first")
	f.BoolVar(&i.Node, "node", false, "serve feature flags and maintenances on each node, to its pods (sluice node)")
	f.StringArrayVar(&i.Images, "images-from", nil, "`HOST[:PORT]` of a registry whose images the nodes' containerd pulls "+
		"through the agent (docs/images.md); may be repeated")
	f.BoolVar(&i.Exports, "exports", false,
		"have node parts pass on to the agent what programs measure (docs/export.md)")
	f.BoolVar(&i.SelfUpdate, "self-update", false, "let releases replace the agent by their component sluice-agent, with "+
		"a guard that puts the old one back if the new one does not report; a machine's cell needs a root of trust")
	f.BoolVar(&i.Logs, "logs", false, "let the agent read logs of pods, for debug sessions with the scope logs, which "+
		"you permit one by one (docs/debug.md)")
	f.BoolVar(&i.Shells, "shells", false, "let the agent run shells in pods, for debug sessions with the scope shell, "+
		"which you permit one by one (docs/debug.md)")
	f.BoolVar(&i.ClusterAdmin, "cluster-admin", false, "let releases hold anything, such as definitions and roles")
}

// Check returns what is wrong with the flags.
func (i *Agent) Check() error {
	switch {
	case i.Image == "":
		return errors.New("--image is missing: where the cluster gets this program from")
	case !imageName().MatchString(i.Image):
		return fmt.Errorf("--image %q is no name of an image", i.Image)
	case len(i.For) == 0 && !i.ClusterAdmin:
		return errors.New("--for is missing: the namespace that releases go into; or --cluster-admin")
	case len(i.Images) > 0 && !i.Node:
		return errors.New("--images-from needs --node: nodes pull by it")
	case i.Exports && !i.Node:
		return errors.New("--exports needs --node: programs send to it")
	}
	if host, _, _ := strings.Cut(i.Image, "/"); i.SelfUpdate && slices.Contains(i.Images, host) {
		return fmt.Errorf("--self-update does not go with --images-from %s: the node would pull the new agent through the "+
			"agent that it replaces; take --image from another registry", host)
	}
	for _, r := range i.Images {
		if !imagerelay.ValidRegistry(r) {
			return fmt.Errorf("--images-from %q is not HOST or HOST:PORT", r)
		}
	}
	for _, namespace := range append([]string{i.Namespace, i.NodeNamespace()}, i.For...) {
		if !ValidName(namespace) {
			return fmt.Errorf("%q can't be a namespace", namespace)
		}
	}
	return nil
}
