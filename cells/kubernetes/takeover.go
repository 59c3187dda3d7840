package kubernetes

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
)

// takenOver returns the prefixes of the managers' names of programs that a release takes over.
func takenOver(programs []string) (prefixes []string) {
	for _, p := range programs {
		switch p {
		case "kubectl":
			prefixes = append(prefixes, "kubectl", "before-first-apply")
		case "helm":
			prefixes = append(prefixes, "helm")
		}
	}
	return prefixes
}

func hasAnyPrefix(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(strings.ToLower(name), p) })
}

// mayTakeBack reports whether fields may be taken from whoever owns them: programs that are taken over, and, if the
// object is the release's own, people with kubectl, who made drift.
func mayTakeBack(fields []ownedField, takeOver []string, own bool) bool {
	if own {
		takeOver = append(slices.Clone(takeOver), "kubectl")
	}
	return !slices.ContainsFunc(fields, func(f ownedField) bool { return !hasAnyPrefix(f.manager, takeOver) })
}

// takeOver makes the agent the owner of all that programs own in an object by updating it, so that what the release no
// longer has is removed. took reports whether they owned anything, in any way.
func (c *cluster) takeOver(ctx context.Context, found resource, of id, prefixes []string) (took bool, err error) {
	live, err := c.get(ctx, found, of)
	if err != nil || live == nil {
		return false, err
	}
	updaters := sets.New[string]()
	for _, entry := range live.GetManagedFields() {
		if !hasAnyPrefix(entry.Manager, prefixes) || entry.Subresource != "" {
			continue
		}
		took = true
		if entry.Operation == metav1.ManagedFieldsOperationUpdate {
			updaters.Insert(entry.Manager)
		}
	}
	if updaters.Len() == 0 {
		return took, nil
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, updaters, fieldManager)
	if err != nil || patch == nil {
		return took, err
	}
	_, err = request(ctx, func(ctx context.Context) (struct{}, error) {
		_, err := c.at(found, of.Namespace).Patch(ctx, of.Name, types.JSONPatchType, patch,
			metav1.PatchOptions{FieldManager: fieldManager})
		return struct{}{}, err
	})
	return took, err
}
