package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	authorization "k8s.io/api/authorization/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// neededVerbs is what the agent does with the objects of a release.
func neededVerbs() []string { return []string{"get", "list", "watch", "create", "patch", "delete"} }

// right is what the agent may need to do with one kind in one namespace.
type right struct{ group, resource, namespace, verb string }

func (r right) String() string {
	text := r.verb + " " + schema.GroupResource{Group: r.group, Resource: r.resource}.String()
	if r.namespace == "" {
		return text + " in the cluster"
	}
	return text + " in namespace " + r.namespace
}

// covers reports whether rules grant a right for every name.
func covers(rules []authorization.ResourceRule, r right) bool {
	has := func(list []string, want string) bool {
		return slices.Contains(list, "*") || slices.Contains(list, want)
	}
	return slices.ContainsFunc(rules, func(rule authorization.ResourceRule) bool {
		return len(rule.ResourceNames) == 0 && has(rule.Verbs, r.verb) && has(rule.APIGroups, r.group) &&
			has(rule.Resources, r.resource)
	})
}

// preflight looks whether the agent may do all that a release takes, and whether there is room for it, before anything
// is written. existing are the objects new to the inventory that are in the cluster already: see findExisting.
func (t *Target) preflight(ctx context.Context, objects []object) (existing map[id]bool, err error) {
	if err := t.checkRights(ctx, objects); err != nil {
		return nil, err
	}
	if existing, err = t.findExisting(ctx, objects); err != nil {
		return nil, err
	}
	return existing, t.checkQuota(ctx, objects, existing)
}

// checkRights looks whether the agent may do all that a release takes. It asks anew only for other kinds or namespaces.
func (t *Target) checkRights(ctx context.Context, objects []object) error {
	needs, err := t.neededRights(ctx, objects)
	if err != nil {
		return err
	}
	key := contentHash([]byte(fmt.Sprint(needs)))
	if t.checked == key {
		return nil
	}
	missing, err := t.cluster.missingRights(ctx, needs)
	if err != nil {
		return interrupted(ctx, unavailable("ask what the agent may do", err))
	}
	if len(missing) > 0 {
		return &cells.UnavailableError{Cause: fmt.Errorf("the agent may not do what the release takes, so nothing was "+
			"changed: the cell's owner grants it to %s", some(missing, right.String))}
	}
	t.checked = key
	return nil
}

// neededRights returns the rights for all objects whose kinds the cluster serves, sorted.
func (t *Target) neededRights(ctx context.Context, objects []object) ([]right, error) {
	seen := map[right]bool{}
	var all []right
	defined := definedScopes(objects)
	for _, o := range objects {
		found, err := t.cluster.find(ctx, o.groupKind(), o.version)
		if _, own := defined[o.groupKind()]; own && isNotServed(err) {
			continue // the release defines it
		}
		if err != nil {
			return nil, t.notServed(o, err)
		}
		for _, verb := range neededVerbs() {
			r := right{found.gvr.Group, found.gvr.Resource, o.Namespace, verb}
			if !seen[r] {
				seen[r] = true
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b right) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

// missingRights returns which rights the agent lacks. One question for each namespace answers for most; what it does
// not answer is asked one by one.
func (c *cluster) missingRights(ctx context.Context, needs []right) ([]right, error) {
	byNamespace := map[string][]right{}
	for _, r := range needs {
		byNamespace[r.namespace] = append(byNamespace[r.namespace], r)
	}
	var open []right
	for _, namespace := range sortedKeys(byNamespace) {
		var rules []authorization.ResourceRule
		if namespace != "" {
			review := authorization.SelfSubjectRulesReview{
				Spec: authorization.SelfSubjectRulesReviewSpec{Namespace: namespace}}
			if err := c.review(ctx, "SelfSubjectRulesReview", "selfsubjectrulesreviews", &review); err != nil {
				return nil, err
			}
			rules = review.Status.ResourceRules
		}
		for _, r := range byNamespace[namespace] {
			if !covers(rules, r) {
				open = append(open, r)
			}
		}
	}
	missing := make([]bool, len(open))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mostAtOnce)
	for i, r := range open {
		group.Go(func() error {
			review := authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorization.ResourceAttributes{
					Namespace: r.namespace, Verb: r.verb, Group: r.group, Resource: r.resource}}}
			err := c.review(ctx, "SelfSubjectAccessReview", "selfsubjectaccessreviews", &review)
			missing[i] = !review.Status.Allowed
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var lacks []right
	for i, r := range open {
		if missing[i] {
			lacks = append(lacks, r)
		}
	}
	return lacks, nil
}

// review sends a question about the agent's own rights, and reads the answer into it.
func (c *cluster) review(ctx context.Context, kind, plural string, question any) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(question)
	if err != nil {
		return err
	}
	gv := authorization.SchemeGroupVersion
	asked := &unstructured.Unstructured{Object: content}
	asked.SetGroupVersionKind(gv.WithKind(kind))
	answer, err := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return c.dynamic.Resource(gv.WithResource(plural)).Create(ctx, asked, metav1.CreateOptions{})
	})
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(answer.Object, question)
}

// checkQuota looks whether quotas on the number of objects leave room for those that the release adds.
func (t *Target) checkQuota(ctx context.Context, objects []object, existing map[id]bool) error {
	added := map[string]map[string]int64{} // namespace, resource as quotas name it
	for _, o := range objects {
		_, exists := existing[o.id]
		if o.Namespace == "" || exists || !t.isNew(o) {
			continue
		}
		found, err := t.cluster.find(ctx, o.groupKind(), o.version)
		if err != nil {
			continue // the release defines it
		}
		if added[o.Namespace] == nil {
			added[o.Namespace] = map[string]int64{}
		}
		added[o.Namespace]["count/"+found.gvr.GroupResource().String()]++
		if o.Group == "" {
			added[o.Namespace][found.gvr.Resource]++
		}
	}
	quotas, err := t.cluster.find(ctx, schema.GroupKind{Kind: "ResourceQuota"}, "v1")
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	var mu sync.Mutex
	var faults []string
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mostAtOnce)
	for namespace, counts := range added {
		group.Go(func() error {
			// An agent that may not read quotas meets them when it writes.
			_, _ = t.cluster.list(ctx, quotas, namespace, metav1.ListOptions{}, func(q *unstructured.Unstructured) {
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, exceeded(q, counts)...)
			})
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults)
	return &cells.UnavailableError{Cause: fmt.Errorf("the release needs more than quotas allow, so nothing was changed: "+
		"the cell's owner raises %s", words.Some(faults, mostNamed))}
}

// exceeded says which numbers of a ResourceQuota new objects would exceed.
func exceeded(quota *unstructured.Unstructured, added map[string]int64) (faults []string) {
	hard, _, _ := unstructured.NestedStringMap(quota.Object, "status", "hard")
	used, _, _ := unstructured.NestedStringMap(quota.Object, "status", "used")
	for _, name := range sortedKeys(hard) {
		limit, err := apiresource.ParseQuantity(hard[name])
		if added[name] == 0 || err != nil {
			continue
		}
		now, err := apiresource.ParseQuantity(used[name])
		if err == nil && now.Value()+added[name] > limit.Value() {
			faults = append(faults, fmt.Sprintf("%s of ResourceQuota %s/%s: %d are used, %d more are needed, %d are allowed",
				name, quota.GetNamespace(), quota.GetName(), now.Value(), added[name], limit.Value()))
		}
	}
	return faults
}
