package podlogs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		Name string `json:"name"`
		UID  string `json:"uid"`
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

// find returns the pods that are asked for, by name. It returns at most maxPods.
func (r *Reader) find(ctx context.Context, of *diagnostics.Pods, namespace string) ([]pod, error) {
	selectors := []metav1.LabelSelector{{MatchLabels: of.Labels}}
	if of.Workload != "" {
		kind, name, _ := strings.Cut(of.Workload, "/")
		if kind == "pod" {
			var p pod
			if err := r.get(ctx, &p, "", "namespaces", namespace, "pods", name); err != nil {
				return nil, r.explain(err, "find pod "+name, namespace)
			}
			return []pod{p}, nil
		}
		var err error
		if selectors, err = r.selectorsOf(ctx, kind, namespace, name); err != nil {
			return nil, r.explain(err, "find "+of.Workload, namespace)
		}
	}
	var pods []pod
	for i := range selectors {
		var list struct {
			Items []pod `json:"items"`
		}
		if len(selectors[i].MatchLabels)+len(selectors[i].MatchExpressions) == 0 {
			return nil, fmt.Errorf("%s selects no pods", of.Workload) // an empty selector would select all
		}
		if err := r.list(ctx, &list, metav1.FormatLabelSelector(&selectors[i]), "", "namespaces", namespace,
			"pods"); err != nil {
			return nil, r.explain(err, "list pods", namespace)
		}
		pods = append(pods, list.Items...)
	}
	slices.SortFunc(pods, func(a, b pod) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	return pods[:min(len(pods), maxPods)], nil
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

// selectorsOf returns by which labels a workload's pods are found.
func (r *Reader) selectorsOf(ctx context.Context, kind, namespace, name string) ([]metav1.LabelSelector, error) {
	group, known := diagnostics.WorkloadKinds()[kind]
	if !known {
		return nil, fmt.Errorf("%s is no kind of workload", kind)
	}
	var w workload
	if err := r.get(ctx, &w, group, "namespaces", namespace, kind+"s", name); err != nil {
		return nil, err
	}
	if kind != "cronjob" {
		return []metav1.LabelSelector{w.Spec.Selector}, nil
	}
	var jobs struct {
		Items []workload `json:"items"`
	}
	if err := r.list(ctx, &jobs, "", group, "namespaces", namespace, "jobs"); err != nil {
		return nil, err
	}
	var all []metav1.LabelSelector
	for _, j := range jobs.Items {
		if slices.ContainsFunc(j.Metadata.OwnerReferences,
			func(o metav1.OwnerReference) bool { return string(o.UID) == w.Metadata.UID }) {
			all = append(all, j.Spec.Selector)
		}
	}
	return all, nil
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
	text, err := q.Do(ctx).Raw()
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
