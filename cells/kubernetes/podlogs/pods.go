package podlogs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// Bounds of what is looked at.
const (
	maxPods = 200
	maxBody = 32 << 20 // bytes of one answer
)

// pod is what logs need to know of a pod.
type pod struct {
	Metadata struct {
		Name            string                  `json:"name"`
		UID             string                  `json:"uid"`
		Labels          map[string]string       `json:"labels"`
		OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
	} `json:"metadata"`
	Spec struct {
		InitContainers []container `json:"initContainers"`
		Containers     []container `json:"containers"`
	} `json:"spec"`
	Status struct {
		InitContainerStatuses []status `json:"initContainerStatuses"`
		ContainerStatuses     []status `json:"containerStatuses"`
	} `json:"status"`
}

type container struct {
	Name string `json:"name"`
}

// status is what a pod says of a container.
type status struct {
	Name         string `json:"name"`
	RestartCount int    `json:"restartCount"`
	State        state  `json:"state"`
	LastState    state  `json:"lastState"`
}

type state struct {
	Running    *struct{} `json:"running"`
	Terminated *struct {
		ExitCode int `json:"exitCode"`
	} `json:"terminated"`
}

// instance is one run of a container.
type instance struct {
	pod, container string
	key            string // tells it from other runs, of pods of the same name too
	started        bool   // it runs, or has run
	running        bool
}

// instances returns the newest run of each container whose log is wanted. Containers that prepared the pod and are done
// are left out, unless one is named.
func (p *pod) instances(only string) (all []instance) {
	add := func(containers []container, statuses []status, prepares bool) {
		for _, c := range containers {
			var s status
			if i := slices.IndexFunc(statuses, func(s status) bool { return s.Name == c.Name }); i >= 0 {
				s = statuses[i]
			}
			isDone := prepares && s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
			if only != "" && c.Name != only || only == "" && isDone {
				continue
			}
			all = append(all, instance{pod: p.Metadata.Name, container: c.Name,
				key:     fmt.Sprintf("%s %s %d", p.Metadata.UID, c.Name, s.RestartCount),
				started: s.State.Running != nil || s.State.Terminated != nil || s.LastState.Terminated != nil,
				running: s.State.Running != nil})
		}
	}
	add(p.Spec.InitContainers, p.Status.InitContainerStatuses, true)
	add(p.Spec.Containers, p.Status.ContainerStatuses, false)
	return all
}

// source is where pods are found: by labels and, those of a workload, by what controls them too. Labels alone would
// not do: a release chooses what its workloads select, and the owner permitted the logs of their own pods.
type source struct {
	selector metav1.LabelSelector
	isOf     func(*pod) bool // nil: all that have the labels
}

// find returns the pods that are asked for, by name: at most maxPods. isCut says that there are more.
func (r *Reader) find(ctx context.Context, of *diagnostics.Pods, namespace string) (
	pods []pod, isCut bool, err error,
) {
	sources := []source{{selector: metav1.LabelSelector{MatchLabels: of.Labels}}}
	if of.Workload != "" {
		kind, name, _ := strings.Cut(of.Workload, "/")
		if kind == "pod" {
			var p pod
			if err := r.get(ctx, &p, "", "namespaces", namespace, "pods", name); err != nil {
				return nil, false, r.explain(err, "find pod "+name, namespace)
			}
			return []pod{p}, false, nil
		}
		if sources, isCut, err = r.sourcesOf(ctx, kind, namespace, name); err != nil {
			return nil, false, r.explain(err, "find "+of.Workload, namespace)
		}
	}
	for i := range sources {
		s := &sources[i]
		var list struct {
			Metadata metav1.ListMeta `json:"metadata"`
			Items    []pod           `json:"items"`
		}
		if len(s.selector.MatchLabels)+len(s.selector.MatchExpressions) == 0 {
			return nil, false, fmt.Errorf("%s selects no pods", of.Workload) // an empty selector would select all
		}
		if err := r.list(ctx, &list, metav1.FormatLabelSelector(&s.selector), "", "namespaces", namespace,
			"pods"); err != nil {
			return nil, false, r.explain(err, "list pods", namespace)
		}
		isCut = isCut || list.Metadata.Continue != ""
		pods = append(pods, slices.DeleteFunc(list.Items, func(p pod) bool { return s.isOf != nil && !s.isOf(&p) })...)
	}
	slices.SortFunc(pods, func(a, b pod) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	return pods[:min(len(pods), maxPods)], isCut || len(pods) > maxPods, nil
}

// controller returns what controls a pod; empty: nothing does.
func (p *pod) controller() metav1.OwnerReference {
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return o
		}
	}
	return metav1.OwnerReference{}
}

// isOfDeployment reports whether a pod is one of a deployment's. Between both is a ReplicaSet, which the agent may not
// be allowed to read: Kubernetes names it after the deployment and the hash that its pods have as a label.
func (p *pod) isOfDeployment(name string) bool {
	c, hash := p.controller(), p.Metadata.Labels["pod-template-hash"]
	return c.Kind == "ReplicaSet" && hash != "" && c.Name == name+"-"+hash
}

// controlledBy returns whether a pod is controlled by the object of a UID.
func controlledBy(uid string) func(*pod) bool {
	return func(p *pod) bool { return string(p.controller().UID) == uid }
}

// workload is what logs need to know of a workload.
type workload struct {
	Metadata struct {
		UID             string                  `json:"uid"`
		OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
	} `json:"metadata"`
	Spec struct {
		Selector metav1.LabelSelector `json:"selector"`
	} `json:"spec"`
}

// sourcesOf returns how a workload's pods are found. isCut says that there are more, of a cronjob.
func (r *Reader) sourcesOf(ctx context.Context, kind, namespace, name string) (all []source, isCut bool, err error) {
	group, known := diagnostics.WorkloadKinds()[kind]
	if !known {
		return nil, false, fmt.Errorf("%s is no kind of workload", kind)
	}
	var w workload
	if err := r.get(ctx, &w, group, "namespaces", namespace, kind+"s", name); err != nil {
		return nil, false, err
	}
	switch kind {
	case "cronjob":
	case "deployment":
		return []source{{w.Spec.Selector, func(p *pod) bool { return p.isOfDeployment(name) }}}, false, nil
	default:
		return []source{{w.Spec.Selector, controlledBy(w.Metadata.UID)}}, false, nil
	}
	var jobs struct {
		Metadata metav1.ListMeta `json:"metadata"`
		Items    []workload      `json:"items"`
	}
	if err := r.list(ctx, &jobs, "", group, "namespaces", namespace, "jobs"); err != nil {
		return nil, false, err
	}
	for _, j := range jobs.Items {
		if slices.ContainsFunc(j.Metadata.OwnerReferences,
			func(o metav1.OwnerReference) bool { return string(o.UID) == w.Metadata.UID }) {
			all = append(all, source{j.Spec.Selector, controlledBy(j.Metadata.UID)})
		}
	}
	return all, jobs.Metadata.Continue != "", nil
}

func (r *Reader) get(ctx context.Context, to any, group string, path ...string) error {
	return r.list(ctx, to, "", group, path...)
}

// list reads what a path has into to.
func (r *Reader) list(ctx context.Context, to any, selector, group string, path ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout,
		fmt.Errorf("the API server did not answer within %s", requestTimeout))
	defer cancel()
	q := r.client.Get().AbsPath(append(root(group), path...)...).Param("limit", strconv.Itoa(maxPods))
	if selector != "" {
		q.Param("labelSelector", selector)
	}
	body, err := q.Stream(ctx)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(body, maxBody+1))
		_ = body.Close()
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case len(text) > maxBody:
		return errors.New("the API server's answer is too large")
	}
	return json.Unmarshal(text, to)
}

// root returns where an API group is.
func root(group string) []string {
	if group == "" {
		return []string{"/api", "v1"}
	}
	return []string{"/apis", group, "v1"}
}

// explain says what failed and, where the agent lacks a right, who grants it.
func (r *Reader) explain(err error, what, namespace string) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%s in namespace %s: %w: the cell's owner grants it (sluice agent manifest --logs has the "+
			"role)", what, namespace, err)
	}
	return fmt.Errorf("%s in namespace %s: %w", what, namespace, err)
}
