package kubernetes

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const (
	heartbeatLabel  = "sluice/heartbeat" // of the Leases by which parts of a cell say that they are there
	heartbeatText   = "sluice/says"      // annotation with what such a part says
	maxHeartbeat    = 16 << 10           // bytes of that
	heartbeatListed = 500                // in one answer
)

// Heartbeats are Leases of one namespace by which parts of a cell say that they are there, each with a text. Methods
// may be called at once.
type Heartbeats struct {
	client dynamic.ResourceInterface
}

// Heartbeat is what one part said last.
type Heartbeat struct {
	Name    string
	Version string // another one each time
	Text    string
}

// NewHeartbeats returns the heartbeats in a namespace. It asks the API server nothing.
func NewHeartbeats(config *rest.Config, namespace string) (*Heartbeats, error) {
	c, err := newCluster(config, nil)
	if err != nil {
		return nil, fmt.Errorf("prepare to use Leases of %s: %w", namespace, err)
	}
	gvr := schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	return &Heartbeats{client: c.dynamic.Resource(gvr).Namespace(namespace)}, nil
}

// Write says at now that a part is there. It needs the rights to create and patch.
func (h *Heartbeats) Write(ctx context.Context, name, text string, now time.Time) error {
	lease := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": name, "labels": map[string]any{heartbeatLabel: "node"},
			"annotations": map[string]any{heartbeatText: text}},
		"spec": map[string]any{"holderIdentity": name, "renewTime": now.UTC().Format(microTime)},
	}}
	_, err := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return h.client.Apply(ctx, name, lease, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	})
	if err != nil {
		return unavailable("write Lease "+name, err)
	}
	return nil
}

// List returns all heartbeats as the API server's store has them now, or later.
func (h *Heartbeats) List(ctx context.Context) (all []Heartbeat, err error) {
	options := metav1.ListOptions{LabelSelector: heartbeatLabel + "=node", Limit: heartbeatListed}
	for {
		page, err := request(ctx, func(ctx context.Context) (*unstructured.UnstructuredList, error) {
			return h.client.List(ctx, options)
		})
		if err != nil {
			return nil, unavailable("list the Leases of the node parts", err)
		}
		for _, live := range page.Items {
			text := live.GetAnnotations()[heartbeatText]
			if len(text) > maxHeartbeat {
				text = ""
			}
			all = append(all, Heartbeat{live.GetName(), live.GetResourceVersion(), text})
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

// Remove removes a heartbeat, unless its part said something since.
func (h *Heartbeats) Remove(ctx context.Context, beat Heartbeat) error {
	_, err := request(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, h.client.Delete(ctx, beat.Name,
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &beat.Version}})
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return unavailable("remove Lease "+beat.Name, err)
	}
	return nil
}
