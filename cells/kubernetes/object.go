package kubernetes

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Labels and annotations of objects.
const (
	cellLabel       = "sluice/cell"  // the cell whose agent applied the object; it removes nothing by itself
	waveAnnotation  = "sluice/wave"  // a number: objects of greater ones follow once the smaller ones are healthy
	hookAnnotation  = "sluice/hook"  // before or after: the Job runs once per release
	pruneAnnotation = "sluice/prune" // disabled: the object is never removed
	healAnnotation  = "sluice/heal"  // suspended: the object is not healed, set by the cell's owner in the cluster
)

const (
	manifestsFile = "manifests.yaml" // all objects as one stream, beside a file for each
	maxObjects    = 10_000
	maxObjectSize = 1400 << 10 // bytes as JSON: etcd takes 1.5 MiB, and the API server adds fields
	maxWave       = 1000
)

// id identifies an object, whatever version of its API it is read by.
type id struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (i id) String() string {
	if i.Namespace == "" {
		return i.Kind + " " + i.Name
	}
	return i.Kind + " " + i.Namespace + "/" + i.Name
}

func (i id) groupKind() schema.GroupKind { return schema.GroupKind{Group: i.Group, Kind: i.Kind} }

func compareIDs(a, b id) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name))
}

// object is one manifest of a release, without the manifest: objects are many, and kept.
type object struct {
	id
	version string // of the API
	file    string // of the release
	hash    string // of the manifest
	wave    int
	hook    hookPhase
	foreign string // the annotation of another program by which it would be a hook; empty: none
	scope   scope

	serves   schema.GroupKind // the kind that it defines; empty: it is no CustomResourceDefinition
	servesIn scope            // whether objects of that kind are in a namespace
}

// scope says whether an object is in a namespace: the API server knows, a release's own definition says it too.
type scope string

const (
	scopeUnknown   scope = ""
	scopeNamespace scope = "Namespaced"
	scopeCluster   scope = "Cluster"
)

// hookPhase says when a Job of a release runs.
type hookPhase string

const (
	hookNone   hookPhase = ""
	hookBefore hookPhase = "before" // before the other workloads of its wave
	hookAfter  hookPhase = "after"  // once its wave is healthy
)

func (o object) gvk() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: o.Group, Version: o.version, Kind: o.Kind}
}

func (o object) isCRD() bool { return o.serves != schema.GroupKind{} }

// releaseError says that a release can't be applied to any cluster.
type releaseError struct{ reason string }

func (e *releaseError) Error() string { return e.reason }

func (e *releaseError) FailureCause() cells.Cause { return cells.CauseRelease }

func releaseFault(format string, args ...any) error {
	return &releaseError{fmt.Sprintf(format, args...)}
}

// readObjects reads the objects of a release, in the order of their files. An error is a *releaseError.
func readObjects(r cells.Rendered) ([]object, error) {
	files := slices.Sorted(maps.Keys(r.Files))
	if len(files) > 1 {
		files = slices.DeleteFunc(files, func(name string) bool { return name == manifestsFile })
	}
	if len(files) > maxObjects {
		return nil, releaseFault("the release has %d objects: at most %d are applied", len(files), maxObjects)
	}
	seen := map[id]string{}
	objects := make([]object, 0, len(files))
	for _, file := range files {
		manifest, err := readManifest(r.Files[file])
		if err != nil {
			return nil, releaseFault("%s: %v", file, err)
		}
		o, err := describe(manifest)
		if err != nil {
			return nil, releaseFault("%s: %v", file, err)
		}
		o.file, o.hash = file, contentHash(r.Files[file])
		if other, ok := seen[o.id]; ok {
			return nil, releaseFault("%s and %s are both %s", other, file, o.id)
		}
		seen[o.id] = file
		objects = append(objects, o)
	}
	if len(objects) == 0 && !r.Kubernetes.RemoveMost {
		return nil, releaseFault("the release renders to no object at all: nothing is removed because of that; " +
			"look at its kustomization.yaml")
	}
	return objects, nil
}

// readManifest reads a file of one object.
func readManifest(text []byte) (*unstructured.Unstructured, error) {
	var content map[string]any
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	if len(asJSON) > maxObjectSize {
		return nil, fmt.Errorf("the object has %d bytes as JSON: Kubernetes stores %d at most", len(asJSON), maxObjectSize)
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.UseNumber()
	if err := decoder.Decode(&content); err != nil {
		return nil, fmt.Errorf("it is no object: %w", err)
	}
	o := &unstructured.Unstructured{Object: plainNumbers(content).(map[string]any)}
	return o, nil
}

// plainNumbers replaces each json.Number by an int64 or a float64, as objects of the API have them.
func plainNumbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for k, v := range value {
			value[k] = plainNumbers(v)
		}
	case []any:
		for i, v := range value {
			value[i] = plainNumbers(v)
		}
	case json.Number:
		if n, err := value.Int64(); err == nil {
			return n
		}
		f, _ := value.Float64() // out of range: the API server says so
		return f
	}
	return value
}

func describe(manifest *unstructured.Unstructured) (object, error) {
	gvk := manifest.GroupVersionKind()
	o := object{
		id:      id{Group: gvk.Group, Kind: gvk.Kind, Namespace: manifest.GetNamespace(), Name: manifest.GetName()},
		version: gvk.Version,
	}
	switch {
	case o.Kind == "" || o.version == "":
		return o, fmt.Errorf("it has no apiVersion or no kind")
	case o.Name == "":
		return o, fmt.Errorf("the %s has no metadata.name: a generated name would be another at each apply", o.Kind)
	case manifest.IsList():
		return o, fmt.Errorf("a List is not applied: write its objects one by one")
	}
	annotations := manifest.GetAnnotations()
	o.foreign = releases.ForeignHook(annotations)
	if text, ok := annotations[waveAnnotation]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < -maxWave || n > maxWave {
			return o, fmt.Errorf("annotation %s: %q is no number from %d to %d", waveAnnotation, text, -maxWave, maxWave)
		}
		o.wave = n
	}
	if text, ok := annotations[hookAnnotation]; ok {
		o.hook = hookPhase(text)
		switch {
		case o.hook != hookBefore && o.hook != hookAfter:
			return o, fmt.Errorf("annotation %s: %q is neither %s nor %s", hookAnnotation, text, hookBefore, hookAfter)
		case o.Group != "batch" || o.Kind != "Job":
			return o, fmt.Errorf("annotation %s: only a Job of group batch can be a hook, not a %s", hookAnnotation, o.Kind)
		}
	}
	if o.Group == "apiextensions.k8s.io" && o.Kind == "CustomResourceDefinition" {
		o.serves.Group, _, _ = unstructured.NestedString(manifest.Object, "spec", "group")
		o.serves.Kind, _, _ = unstructured.NestedString(manifest.Object, "spec", "names", "kind")
		text, _, _ := unstructured.NestedString(manifest.Object, "spec", "scope")
		o.servesIn = scope(text)
		if o.serves.Group == "" || o.serves.Kind == "" {
			return o, fmt.Errorf("the definition names no group or no kind")
		}
	}
	return o, nil
}

// definedScopes returns the scopes of the kinds that the release itself defines.
func definedScopes(objects []object) map[schema.GroupKind]scope {
	scopes := map[schema.GroupKind]scope{}
	for _, o := range objects {
		if o.isCRD() {
			scopes[o.serves] = o.servesIn
		}
	}
	return scopes
}

// hashFiles returns a hash of a release's digest and of what it renders to.
func hashFiles(r cells.Rendered) string {
	parts := [][]byte{[]byte(r.Assignment.Digest)}
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		parts = append(parts, []byte(name), r.Files[name])
	}
	return contentHash(parts...)
}

func contentHash(parts ...[]byte) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:", len(part))
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:12])
}

// mostNamed is how many objects, fields or rights a sentence names; it counts the others.
const mostNamed = 10

// some lists things by their names, as words.Some does.
func some[T any](all []T, name func(T) string) string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = name(one)
	}
	return words.Some(list, mostNamed)
}
