package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const (
	// maxVariants bounds the renders of one release: cells may each have values of their own.
	maxVariants   = 32
	maxCandidates = 8 // releases above all heads that validate renders
	maxShownCells = 3
	maxShownError = 2000
)

// Check renders a release in all its variants, and returns what is wrong with it there.
func (r *Renderer) Check(ctx context.Context, release *Release, d *plan.Desired) ([]releases.Fault, error) {
	variants, unfit, bare := Variants(&release.Release, release.HasRoot(), allCells(d))
	manifestFile := path.Join(release.Dir, "release.yaml")
	warn := func(code manifest.FaultCode, format string, args ...any) releases.Fault {
		return releases.Fault{File: manifestFile, Code: code, Warning: true, Message: fmt.Sprintf(format, args...)}
	}
	var faults []releases.Fault
	if !wasHead(d, release.Digest) {
		faults = releases.CheckEmpty(release.Files, release.Version)
	}
	if names := slices.Sorted(maps.Keys(unfit)); len(names) > 0 {
		faults = append(faults, warn(manifest.WrongValue, "can't be granted to %s as their values are: %s: %s",
			shorten(names), names[0], strings.Join(unfit[names[0]], "; ")))
	}
	for _, p := range bare {
		faults = append(faults, warn(manifest.Missing, "profile %s was not rendered: no cell has a value for each "+
			"required parameter, and none could be made up", p))
	}
	if more := len(variants) - maxVariants; more > 0 {
		faults = append(faults, warn(manifest.TooLarge,
			"was rendered with %d of the %d different values that cells have", maxVariants, len(variants)))
		variants = variants[:maxVariants]
	}
	for _, v := range variants {
		files, err := r.Render(ctx, release, v)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if unavailable := new(cells.UnavailableError); errors.As(err, &unavailable) {
			return nil, fmt.Errorf("render %s: %w", release.Version, err)
		}
		dir, _ := release.Profile(v.Profile)
		at := path.Join(release.Dir, dir)
		if err != nil {
			faults = append(faults, releases.Fault{File: at, Code: manifest.WrongValue,
				Message: fmt.Sprintf("can't be rendered %s: %v", v.describe(), Reason(err, release.Version))})
			continue
		}
		objects := decodeObjects(files[render.ManifestsFile])
		for _, value := range plainSecrets(objects, ownersTexts(&release.Release, v.Own)) {
			faults = append(faults, releases.Fault{File: at, Code: manifest.WrongValue, Message: fmt.Sprintf("Secret "+
				"%s is not encrypted: let sops encrypt it with the cells' age keys, refer to a Secret of the cell, "+
				"or make it a parameter with owner: cell; annotation %s: allowed says that it is no secret",
				cleantext.Line(value), plainAnnotation)})
		}
		for _, image := range movingImages(objects) {
			faults = append(faults, releases.Fault{File: at, Code: manifest.Missing,
				Warning: !d.Pipeline.RequireDigests,
				Message: fmt.Sprintf("image %s has no digest: what soaks may not be what ships",
					cleantext.Line(image))})
		}
		for _, hook := range foreignHooks(objects) {
			faults = append(faults, warn(manifest.WrongValue, "%s is a hook that only Helm or Argo CD runs: cells "+
				"that are clusters refuse it; a Job that runs once has the annotation sluice/hook instead", cleantext.Line(hook)))
		}
	}
	return manifest.Sort(faults), nil
}

// CheckAll checks the releases that matter now: those that a channel runs, and the newest above the oldest of these.
func (r *Renderer) CheckAll(ctx context.Context, files fs.FS, d *plan.Desired) (faults []releases.Fault, err error) {
	for _, stored := range current(d) {
		more, err := r.Check(ctx, FolderOf(files, &stored.StoredRelease), d)
		if err != nil {
			return nil, err
		}
		faults = append(faults, more...)
	}
	return manifest.Sort(faults), nil
}

// current returns the releases that cells run or may be granted next, newest first.
func current(d *plan.Desired) (found []*plan.Release) {
	heads := map[string]bool{}
	for _, c := range d.Channels {
		if c.Effective != nil {
			heads[c.Effective.Release] = true
		} else if c.Head != nil {
			heads[c.Head.Release] = true
		}
	}
	left, candidates := len(heads), maxCandidates
	for _, v := range slices.Backward(d.Versions) {
		head := heads[v.Version.String()]
		if head {
			left--
		}
		if v.Loaded && v.Digest != "" && !manifest.Fatal(v.Faults) && (head || candidates > 0) {
			found = append(found, v)
			candidates--
		}
		if left <= 0 && (len(heads) > 0 || candidates <= 0) {
			break
		}
	}
	return found
}

// wasHead reports whether any channel ever ran the release.
func wasHead(d *plan.Desired, digest releases.Digest) bool {
	for _, c := range d.Channels {
		if slices.ContainsFunc(c.History, func(h plan.EffectiveHead) bool { return h.Digest == digest }) {
			return true
		}
	}
	return false
}

func allCells(d *plan.Desired) (all []*plan.Cell) {
	for _, name := range d.Order {
		all = append(all, d.Channels[name].Cells...)
	}
	return all
}

// describe says which render a fault is about.
func (v *Variant) describe() string {
	with := "with profile " + profileName(v.Profile)
	if len(v.Cells) > 0 {
		return with + " and the values of " + shorten(v.Cells)
	}
	return with
}

func shorten(names []string) string {
	if more := len(names) - maxShownCells; more > 0 {
		return strings.Join(names[:maxShownCells], ", ") + " and " + words.Count(more, "more cell")
	}
	return strings.Join(names, ", ")
}

// Reason returns why a render of the release failed, in one line.
func Reason(err error, v releases.Version) error {
	text := strings.TrimPrefix(err.Error(), "render "+v.String()+": ")
	return errors.New(words.Clip(cleantext.Line(strings.Join(strings.Fields(text), " ")), maxShownError))
}

// decodeObjects returns the objects in manifests, which the renderer wrote. What is read of them is decoded one by one:
// an object of an odd form hides none that comes after it.
func decodeObjects(manifests []byte) (objects []*yaml.Node) {
	documents := yaml.NewDecoder(bytes.NewReader(manifests))
	for {
		node := new(yaml.Node)
		if documents.Decode(node) != nil {
			return objects
		}
		objects = append(objects, node)
	}
}

// foreignHooks returns the objects that are hooks of other programs, with the annotation that says so.
func foreignHooks(objects []*yaml.Node) []string {
	found := map[string]bool{}
	for _, object := range objects {
		var doc struct {
			Kind     string `yaml:"kind"`
			Metadata struct {
				Name        string            `yaml:"name"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"metadata"`
		}
		_ = object.Decode(&doc) // of an object of an odd form, the rest is read
		if name := releases.ForeignHook(doc.Metadata.Annotations); name != "" {
			found[fmt.Sprintf("%s %s (%s)", doc.Kind, doc.Metadata.Name, name)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// movingImages returns the images that objects name without a digest, each once: those of containers, wherever they
// are, and of volumes.
func movingImages(objects []*yaml.Node) []string {
	found := map[string]bool{}
	for _, object := range objects {
		var doc map[string]any
		_ = object.Decode(&doc) // of what is no object, nothing is read
		if kind := doc["kind"]; kind != "ConfigMap" && kind != "Secret" && kind != "CustomResourceDefinition" {
			findImages(doc, found)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// imageLists are the fields with lists of what runs an image.
var imageLists = []string{"containers", "initContainers", "ephemeralContainers"}

func findImages(node any, found map[string]bool) {
	note := func(value any) {
		if image, ok := value.(string); ok && image != "" && !strings.Contains(image, "@sha256:") {
			found[image] = true
		}
	}
	switch n := node.(type) {
	case map[string]any:
		for key, value := range n {
			findImages(value, found)
			entries, _ := value.([]any)
			for _, e := range entries {
				entry, _ := e.(map[string]any)
				if slices.Contains(imageLists, key) {
					note(entry["image"])
				} else if volume, ok := entry["image"].(map[string]any); ok && key == "volumes" {
					note(volume["reference"])
				}
			}
		}
	case []any:
		for _, value := range n {
			findImages(value, found)
		}
	}
}
