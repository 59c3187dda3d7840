package kubernetes

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/internal/backoff"
)

// MaxConfigMap bounds the content of one ConfigMap, in bytes. Kubernetes takes 1 MiB, with the names.
const MaxConfigMap = 960 << 10

// ConfigMaps are small files of the cell in ConfigMaps of one namespace, or in Secrets: the agent writes them, node
// parts read them. Methods may be called at once.
type ConfigMaps struct {
	client        dynamic.ResourceInterface
	kind, content string // of the objects, and their field for files
}

// NewConfigMaps returns the ConfigMaps of a namespace. It asks the API server nothing.
func NewConfigMaps(config *rest.Config, namespace string) (*ConfigMaps, error) {
	return openFiles(config, namespace, ConfigMaps{kind: "ConfigMap", content: "binaryData"})
}

// NewSecrets is NewConfigMaps for files that are secret.
func NewSecrets(config *rest.Config, namespace string) (*ConfigMaps, error) {
	return openFiles(config, namespace, ConfigMaps{kind: "Secret", content: "data"})
}

func openFiles(config *rest.Config, namespace string, m ConfigMaps) (*ConfigMaps, error) {
	c, err := newCluster(config, nil)
	if err != nil {
		return nil, fmt.Errorf("%ss of %s: %w", m.kind, namespace, err)
	}
	gvr := schema.GroupVersionResource{Version: "v1", Resource: strings.ToLower(m.kind) + "s"}
	m.client = c.dynamic.Resource(gvr).Namespace(namespace)
	return &m, nil
}

// Write makes files the content of a ConfigMap, which is created if needed.
func (m *ConfigMaps) Write(ctx context.Context, name string, files map[string][]byte) error {
	content := map[string]any{}
	for file, text := range files {
		content[file] = base64.StdEncoding.EncodeToString(text)
	}
	manifest := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": m.kind,
		"metadata": map[string]any{"name": name}, m.content: content}}
	_, err := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return m.client.Apply(ctx, name, manifest, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	})
	if err != nil {
		return unavailable("write "+m.kind+" "+name, err)
	}
	return nil
}

// Read returns the files of a ConfigMap; nil: there is none.
func (m *ConfigMaps) Read(ctx context.Context, name string) (map[string][]byte, error) {
	live, err := request(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return m.client.Get(ctx, name, metav1.GetOptions{})
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("read "+m.kind+" "+name, err)
	}
	return m.filesOf(live), nil
}

// Follow calls take with the files of a ConfigMap as they are and whenever they change, until ctx ends. onTrouble is
// called when the ConfigMap can't be watched, and with nil when it can. Only the right to watch is needed.
func (m *ConfigMaps) Follow(ctx context.Context, name string, take func(map[string][]byte), onTrouble func(error)) {
	failures := 0
	for ctx.Err() == nil {
		began, err := m.follow(ctx, name, take, onTrouble)
		if began {
			failures = 0
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			onTrouble(err)
		}
		_ = backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minWatchPause, maxFollowPause, failures)))
		failures++
	}
}

// maxFollowPause is short: orders are to be in force within two seconds once the API server works again.
const maxFollowPause = time.Second

// follow watches once. A watch without a version begins with what is there.
func (m *ConfigMaps) follow(ctx context.Context, name string, take func(map[string][]byte), onTrouble func(error)) (
	began bool, err error,
) {
	changes, err := m.client.Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()})
	if err != nil {
		return false, unavailable("watch "+m.kind+" "+name, err)
	}
	defer changes.Stop()
	onTrouble(nil)
	for {
		select {
		case <-ctx.Done():
			return true, nil
		case change, ok := <-changes.ResultChan():
			live, isObject := change.Object.(*unstructured.Unstructured)
			switch {
			case !ok: // the API server ends a watch after a while
				return true, nil
			case change.Type == watch.Error || !isObject:
				return true, errors.New("the API server ended the watch of " + m.kind + " " + name)
			case change.Type == watch.Added || change.Type == watch.Modified:
				take(m.filesOf(live))
			}
		}
	}
}

func (m *ConfigMaps) filesOf(live *unstructured.Unstructured) map[string][]byte {
	files := map[string][]byte{}
	content, _, _ := unstructured.NestedStringMap(live.Object, m.content)
	for name, text := range content {
		if file, err := base64.StdEncoding.DecodeString(text); err == nil {
			files[name] = file
		}
	}
	return files
}
