package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// goneFile lists, for the hook, the objects that an earlier version had put into effect and that the release no longer
// has.
const goneFile = "gone.yaml"

// keptKinds are never listed as gone: removing one removes what others made or stored.
var keptKinds = []string{"Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"}

// objectID identifies an object whatever the version of its API.
type objectID struct{ group, kind, namespace, name string }

func idOf(o cells.Object) objectID {
	group, _, hasGroup := strings.Cut(o.APIVersion, "/")
	if !hasGroup {
		group = ""
	}
	return objectID{group, o.Kind, o.Namespace, o.Name}
}

// findGone returns the objects that were in effect and are to go, in the order in which to remove them; those that are
// kept because of their kind; and those that are kept because they may be wanted ones. A release without any object
// removes nothing: it is rather a mistake.
func findGone(inEffect, wanted []cells.Object) (gone, kept, unsure []cells.Object) {
	if len(wanted) == 0 {
		return nil, nil, nil
	}
	in := make(map[objectID]bool, 2*len(wanted))
	anywhere := make(map[objectID]bool, len(wanted)) // without their namespaces
	for _, o := range wanted {
		id := idOf(o)
		in[id] = true
		id.namespace = ""
		anywhere[id] = true
	}
	for _, o := range inEffect {
		id := idOf(o)
		bare := id
		bare.namespace = ""
		switch {
		case in[id]:
		case in[bare], id == bare && anywhere[bare]:
			unsure = append(unsure, o) // the hook's program decides which namespace an object without one has
		case slices.Contains(keptKinds, o.Kind):
			kept = append(kept, o)
		default:
			gone = append(gone, o)
		}
	}
	slices.Reverse(gone) // the reverse of the order in which they were applied
	return gone, kept, unsure
}

// writeGone writes the list for the hook, and records which objects may be in effect from now on. It returns the file's
// path.
func (t *Target) writeGone(wanted []cells.Object) (file string, err error) {
	gone, kept, unsure := findGone(t.record.Objects, wanted)
	if len(kept) > 0 {
		t.warn(fmt.Errorf("%s no longer has %s: remove them by hand if nobody needs them", t.assignment.Release,
			words.Some(objectNames(kept), 5)))
	}
	if len(unsure) > 0 {
		t.warn(fmt.Errorf("%s has %s with a namespace where there was none, or without one, so they may be the same "+
			"objects, and are kept: remove those of the other namespace by hand", t.assignment.Release,
			words.Some(objectNames(unsure), 5)))
	}
	text, err := encodeObjects(gone)
	if err != nil {
		return "", fmt.Errorf("list what is gone: %w", err)
	}
	inEffect := slices.Concat(wanted, gone)
	if len(wanted) == 0 {
		inEffect = t.record.Objects
	}
	if err := errors.Join(t.replaceOwnFile(goneFile, text, false), t.recordObjects(inEffect)); err != nil {
		return "", fmt.Errorf("list what is gone: %w", err)
	}
	return t.path(ownDir, goneFile), nil
}

// recordObjects records which objects are in effect.
func (t *Target) recordObjects(objects []cells.Object) error {
	if slices.Equal(t.record.Objects, objects) {
		return nil
	}
	return t.saveRecord(record{t.record.Versions, objects})
}

func objectNames(objects []cells.Object) (names []string) {
	for _, o := range objects {
		names = append(names, o.Kind+" "+o.Name)
	}
	return names
}

// encodeObjects returns a YAML document for each object, with just what names it, written as JSON. Without objects it
// is empty: the hook may test for that.
func encodeObjects(objects []cells.Object) ([]byte, error) {
	type metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace,omitempty"`
	}
	type document struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Metadata   metadata `json:"metadata"`
	}
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	for i, o := range objects {
		if i > 0 {
			text.WriteString("---\n")
		}
		if err := lines.Encode(document{o.APIVersion, o.Kind, metadata{o.Name, o.Namespace}}); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
