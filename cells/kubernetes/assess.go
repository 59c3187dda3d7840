package kubernetes

import (
	"fmt"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/health"
)

// maxWhy bounds why an object is unhealthy, in bytes.
const maxWhy = 300

// assessment says whether an object works.
type assessment struct {
	ready  bool
	failed bool   // it will not become ready by itself
	why    string // it is not ready; of one line

	suspended bool // a hook: nothing of it runs
}

func notReady(format string, args ...any) assessment {
	return assessment{why: words.Clip(cleantext.Line(fmt.Sprintf(format, args...)), maxWhy)}
}

// compiledRule is a rule of release.yaml.
type compiledRule struct {
	releases.HealthRule
	ready, failed *health.Expression // failed: nil: there is none
}

// compileRules compiles the rules of a release. An error is a *releaseError.
func compileRules(rules []releases.HealthRule) (map[schema.GroupKind]compiledRule, error) {
	compiled := map[schema.GroupKind]compiledRule{}
	for _, r := range rules {
		c := compiledRule{HealthRule: r}
		var err error
		if c.ready, err = health.Compile(r.Ready); err == nil && r.Failed != "" {
			c.failed, err = health.Compile(r.Failed)
		}
		if err != nil {
			return nil, releaseFault("release.yaml: health of %s: %v", r.Kind, err)
		}
		compiled[schema.GroupKind{Group: r.Group, Kind: r.Kind}] = c
	}
	return compiled, nil
}

// assess says whether a live object works: by a rule of the release if there is one, else by what its kind shows.
// hasStatus reports whether a controller writes the status of its kind apart from the rest.
func assess(live *unstructured.Unstructured, rule *compiledRule, hasStatus bool) assessment {
	if at := live.GetDeletionTimestamp(); at != nil {
		return notReady("it is being deleted since %s", words.FormatTime(at.Time))
	}
	if rule != nil {
		return rule.assess(live)
	}
	gvk := live.GroupVersionKind()
	switch {
	case gvk.Group == "batch" && gvk.Kind == "Job":
		return assessJob(live)
	case gvk.Group == "" && gvk.Kind == "PersistentVolumeClaim":
		return assessClaim(live)
	case gvk.Group == "apps" && gvk.Kind == "StatefulSet":
		if a := assessStatefulSet(live); !a.ready {
			return a
		}
	case !builtIn(gvk.Group) && hasStatus:
		if fields, ok, _ := unstructured.NestedMap(live.Object, "status"); !ok || len(fields) == 0 {
			return notReady("it has no status yet: does its controller run? If it never writes one, release.yaml says so " +
				"by a rule: kubernetes: {health: […]}")
		}
	}
	result, err := status.Compute(live)
	switch {
	case err != nil:
		return notReady("its status can't be read: %v", err)
	case result.Status == status.CurrentStatus:
		return assessment{ready: true}
	}
	a := notReady("%s", result.Message)
	a.failed = result.Status == status.FailedStatus
	if a.why == "" {
		a.why = strings.ToLower(result.Status.String())
	}
	return a
}

func (r *compiledRule) assess(live *unstructured.Unstructured) assessment {
	if r.failed != nil {
		if failed, err := r.failed.Holds(live.Object); err == nil && failed {
			a := notReady("the release's rule says that it failed: %s", r.HealthRule.Failed)
			a.failed = true
			return a
		}
	}
	switch ready, err := r.ready.Holds(live.Object); {
	case err != nil:
		return notReady("the release's rule %s: %v", r.Ready, err)
	case !ready:
		return notReady("the release's rule does not hold: %s", r.Ready)
	}
	return assessment{ready: true}
}

// assessJob wants a Job to have succeeded: that it runs is not enough. One that is suspended is as it is meant to be.
func assessJob(live *unstructured.Unstructured) assessment {
	if a := assessHook(live); a.ready || a.failed || condition(live, "Suspended") == nil {
		return a
	}
	return assessment{ready: true}
}

// assessClaim wants a claim not to have lost its volume. One that has none yet may wait for the first pod that uses it,
// which a later wave or a CronJob brings; of a pod that waits for its volume, the workload says so.
func assessClaim(live *unstructured.Unstructured) assessment {
	if phase, _, _ := unstructured.NestedString(live.Object, "status", "phase"); phase != "Lost" {
		return assessment{ready: true}
	}
	a := notReady("it has lost its volume")
	a.failed = true
	return a
}

// assessHook wants the Job of a hook to have succeeded, whoever suspended it.
func assessHook(live *unstructured.Unstructured) assessment {
	failed, suspended := condition(live, "Failed"), condition(live, "Suspended")
	switch {
	case condition(live, "Complete") != nil:
		return assessment{ready: true}
	case failed != nil:
		a := notReady("it failed: %v: %v", failed["reason"], failed["message"])
		a.failed = true
		return a
	case suspended != nil:
		a := notReady("it is suspended: who did that, such as a queue for Jobs, must let it run")
		a.suspended = true
		return a
	}
	active, _, _ := unstructured.NestedInt64(live.Object, "status", "active")
	return notReady("it is not done: %s", words.Count(int(active), "active pod"))
}

// isSucceeded reports whether a live object is a Job that succeeded.
func isSucceeded(live *unstructured.Unstructured) bool {
	gvk := live.GroupVersionKind()
	return gvk.Group == "batch" && gvk.Kind == "Job" && condition(live, "Complete") != nil
}

// condition returns the condition of a type that holds; nil: it does not.
func condition(live *unstructured.Unstructured, kind string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	for _, c := range conditions {
		if fields, _ := c.(map[string]any); fields["type"] == kind && fields["status"] == "True" {
			return fields
		}
	}
	return nil
}

// assessStatefulSet wants as many ready pods as were asked for, whichever way they are updated.
func assessStatefulSet(live *unstructured.Unstructured) assessment {
	want, found, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if !found {
		want = 1
	}
	ready, _, _ := unstructured.NestedInt64(live.Object, "status", "readyReplicas")
	seen, _, _ := unstructured.NestedInt64(live.Object, "status", "observedGeneration")
	switch {
	case seen < live.GetGeneration():
		return notReady("its controller has not seen the change yet")
	case ready < want:
		return notReady("%d of %d pods are ready", ready, want)
	}
	return assessment{ready: true}
}
