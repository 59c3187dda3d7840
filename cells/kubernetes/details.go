package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	detailedObjects = 3 // how many unhealthy objects are looked into
	detailsOf       = 3 // lines about each
	detailsTime     = 3 * time.Second
	detailsFor      = 5 * time.Second // a health check each second asks no more often
)

// details finds out why objects are unhealthy: what their pods wait for, and what happened to them last. It is a help
// for people: what can't be read, or not soon, is left out.
type details struct {
	cluster *cluster
	known   map[id][]string
	at      time.Time
}

// add puts details into u, of the first of its objects.
func (d *details) add(ctx context.Context, u *cells.Unhealthy, bad []unhealthyObject) {
	if time.Since(d.at) > detailsFor {
		d.known = map[id][]string{}
	}
	ctx, cancel := context.WithTimeout(ctx, detailsTime)
	defer cancel()
	for i := range u.Objects[:min(len(u.Objects), detailedObjects)] {
		e := bad[i].entry
		lines, ok := d.known[e.id]
		if !ok {
			lines = append(d.pods(ctx, e), d.events(ctx, e)...)
			lines = lines[:min(len(lines), detailsOf)]
			d.known[e.id], d.at = lines, time.Now()
		}
		u.Objects[i].Events = lines
	}
}

// events returns the last events of an object, newest first.
func (d *details) events(ctx context.Context, e *entry) []string {
	events, err := d.cluster.find(ctx, schema.GroupKind{Kind: "Event"}, "v1")
	if err != nil || e.UID == "" {
		return nil
	}
	type event struct {
		at   string
		text string
	}
	var all []event
	_, _ = d.cluster.list(ctx, events, cmp.Or(e.Namespace, metav1.NamespaceDefault),
		metav1.ListOptions{FieldSelector: "involvedObject.uid=" + e.UID}, func(o *unstructured.Unstructured) {
			reason, _, _ := unstructured.NestedString(o.Object, "reason")
			message, _, _ := unstructured.NestedString(o.Object, "message")
			at, _, _ := unstructured.NestedString(o.Object, "lastTimestamp")
			created, _, _ := unstructured.NestedString(o.Object, "metadata", "creationTimestamp")
			all = append(all, event{cmp.Or(at, created), oneLine("%s: %s", reason, message)})
		})
	slices.SortStableFunc(all, func(a, b event) int { return cmp.Compare(b.at, a.at) })
	lines := make([]string, 0, detailsOf)
	for _, e := range all[:min(len(all), detailsOf)] {
		lines = append(lines, e.text)
	}
	return lines
}

// pods says what the pods of a workload wait for.
func (d *details) pods(ctx context.Context, e *entry) (lines []string) {
	found, err := d.cluster.find(ctx, e.groupKind(), e.Version)
	if err != nil || e.Group != "apps" && e.Group != "batch" {
		return nil
	}
	live, err := d.cluster.get(ctx, found, e.id)
	if err != nil || live == nil {
		return nil
	}
	selector, ok, _ := unstructured.NestedStringMap(live.Object, "spec", "selector", "matchLabels")
	pods, err := d.cluster.find(ctx, schema.GroupKind{Kind: "Pod"}, "v1")
	if err != nil || !ok {
		return nil
	}
	_, _ = d.cluster.list(ctx, pods, e.Namespace,
		metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: selector})},
		func(pod *unstructured.Unstructured) {
			if why := podTrouble(pod); why != "" && len(lines) < detailsOf-1 {
				lines = append(lines, oneLine("pod %s: %s", pod.GetName(), why))
			}
		})
	return lines
}

// podTrouble says what a pod waits for, or "".
func podTrouble(pod *unstructured.Unstructured) string {
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", list)
		for _, s := range statuses {
			container, _ := s.(map[string]any)
			for _, state := range []string{"waiting", "terminated"} {
				fields, ok, _ := unstructured.NestedMap(container, "state", state)
				if reason := fields["reason"]; ok && reason != "Completed" && reason != nil {
					text := fmt.Sprintf("%v: %v", container["name"], reason)
					if message := fields["message"]; message != nil {
						text += fmt.Sprintf(": %v", message)
					}
					return text
				}
			}
		}
	}
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	for _, c := range conditions {
		fields, _ := c.(map[string]any)
		if fields["type"] == "PodScheduled" && fields["status"] == "False" {
			return fmt.Sprintf("%v: %v", fields["reason"], fields["message"])
		}
	}
	return ""
}

func oneLine(format string, args ...any) string {
	return words.Clip(cleantext.Line(fmt.Sprintf(format, args...)), maxWhy)
}
