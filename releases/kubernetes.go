package releases

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/health"
)

// Kubernetes holds a release's rules for cells that are Kubernetes clusters.
type Kubernetes struct {
	Health     []HealthRule `yaml:"health" json:"health,omitempty" doc:"when objects of a kind are healthy, where Kubernetes does not say it"`
	TakeOver   []string     `yaml:"takeOver" json:"takeOver,omitempty" enum:"kubectl,helm" doc:"programs whose fields and objects the release takes over"`
	Prune      []string     `yaml:"prune" json:"prune,omitempty" enum:"Namespace,CustomResourceDefinition,PersistentVolume,PersistentVolumeClaim" doc:"kinds that are removed when a release no longer has them; without it they stay"`
	RemoveMost bool         `yaml:"removeMost" json:"removeMost,omitempty" doc:"the release means to remove more than half of the objects of the one before"`
}

// HealthRule says when objects of one kind are healthy.
type HealthRule struct {
	Group  string `yaml:"group" json:"group,omitempty" doc:"API group; none: the core group"`
	Kind   string `yaml:"kind" json:"kind" required:"true"`
	Ready  string `yaml:"ready" json:"ready" required:"true" doc:"CEL over object, the live object: true once it works"`
	Failed string `yaml:"failed" json:"failed,omitempty" doc:"CEL over object: true when it will not work by itself"`
}

// ForeignHook returns the annotation by which Helm or Argo CD would run an object at a time of its own; empty: it has
// none. Applied as any other object, it would run at the wrong time, such as when a release is removed.
func ForeignHook(annotations map[string]string) string {
	for _, name := range []string{"helm.sh/hook", "argocd.argoproj.io/hook"} {
		if _, ok := annotations[name]; ok {
			return name
		}
	}
	return ""
}

func (c *releaseValidator) validateKubernetes() {
	k := c.doc.Value.Kubernetes
	var kinds []string
	for i, rule := range k.Health {
		at := fmt.Sprintf("kubernetes.health[%d]", i)
		kind := rule.Kind + "." + rule.Group
		if slices.Contains(kinds, kind) {
			c.addFault(manifest.Duplicate, at+".kind", "%s has two rules", rule.Kind)
		}
		kinds = append(kinds, kind)
		for _, e := range []struct{ field, text string }{{"ready", rule.Ready}, {"failed", rule.Failed}} {
			if e.text == "" {
				continue
			}
			if _, err := health.Compile(e.text); err != nil {
				c.addFault(manifest.WrongValue, at+"."+e.field, "health of %s: %s: %v", rule.Kind, e.field, err)
			}
		}
	}
	c.validateUnique("kubernetes.takeOver", k.TakeOver)
	c.validateUnique("kubernetes.prune", k.Prune)
}
