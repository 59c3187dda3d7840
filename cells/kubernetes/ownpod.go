package kubernetes

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// OwnPod is the pod that this process runs in, and the StatefulSet that it is of. Methods may be called at once.
type OwnPod struct {
	pods, sets dynamic.ResourceInterface
	pod, set   string
	uid        types.UID // of the pod; empty: not known
}

// NewOwnPod returns the pod of a name, SET-N, in a namespace. Its UID tells it from others of that name, before and
// after it. It asks the API server nothing.
func NewOwnPod(config *rest.Config, namespace, pod, uid string) (*OwnPod, error) {
	dash := strings.LastIndexByte(pod, '-')
	if dash < 1 || namespace == "" {
		return nil, fmt.Errorf("pod %q in namespace %q is none of a StatefulSet", pod, namespace)
	}
	c, err := newCluster(config, nil)
	if err != nil {
		return nil, fmt.Errorf("prepare to use pod %s: %w", pod, err)
	}
	in := func(group, resource string) dynamic.ResourceInterface {
		return c.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}).
			Namespace(namespace)
	}
	return &OwnPod{pods: in("", "pods"), sets: in("apps", "statefulsets"), pod: pod, set: pod[:dash],
		uid: types.UID(uid)}, nil
}

// Images returns the images of containers: as the StatefulSet has them, and as the pod does.
func (p *OwnPod) Images(ctx context.Context) (wanted, running map[string]string, err error) {
	var uid types.UID
	get := func(from dynamic.ResourceInterface, name string, containers ...string) (map[string]string, error) {
		live, err := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return from.Get(ctx, name, metav1.GetOptions{})
		})
		if err != nil {
			return nil, unavailable("look at the agent's own pod", err)
		}
		uid = live.GetUID()
		all := map[string]string{}
		list, _, _ := unstructured.NestedSlice(live.Object, containers...)
		for _, c := range list {
			fields, _ := c.(map[string]any)
			name, _ := fields["name"].(string)
			all[name], _ = fields["image"].(string)
		}
		return all, nil
	}
	if wanted, err = get(p.sets, p.set, "spec", "template", "spec", "containers"); err == nil {
		running, err = get(p.pods, p.pod, "spec", "containers")
	}
	if err == nil && p.uid != "" && uid != p.uid {
		err = fmt.Errorf("another pod %s took the place of this one", p.pod)
	}
	return wanted, running, err
}

// SetImage changes a container's image in the StatefulSet. Whoever applied the manifest has the field back by applying
// that again.
func (p *OwnPod) SetImage(ctx context.Context, container, image string) error {
	m := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": p.set},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": container, "image": image}}}}},
	}}
	patch, err := m.MarshalJSON()
	if err == nil {
		_, err = request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return p.sets.Patch(ctx, p.set, "application/strategic-merge-patch+json", patch,
				metav1.PatchOptions{FieldManager: fieldManager})
		})
	}
	if err != nil {
		return unavailable("change the image of container "+container, err)
	}
	return nil
}

// Restart deletes the pod, which the StatefulSet makes anew: it does not replace by itself a pod that never was ready.
func (p *OwnPod) Restart(ctx context.Context) error {
	_, err := request(ctx, func(ctx context.Context) (struct{}, error) {
		o := metav1.DeleteOptions{}
		if p.uid != "" {
			o.Preconditions = &metav1.Preconditions{UID: &p.uid}
		}
		return struct{}{}, p.pods.Delete(ctx, p.pod, o)
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return unavailable("replace pod "+p.pod, err)
	}
	return nil
}
