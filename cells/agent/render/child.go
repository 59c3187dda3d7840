package render

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/releases/export"
)

// ValuesFile is the name of the file that carries values into manifests: a ConfigMap named sluice-values, marked
// config.kubernetes.io/local-config so that it is never applied. A release that takes values contains the file, with
// placeholders as data, among the resources of the kustomization whose replacements read it. Wherever a file of the
// release has this name, its data is overlaid with the cell's values before rendering.
const ValuesFile = "sluice-values.yaml"

// ChildVerb is the only argument with which a program runs Main.
const ChildVerb = "render"

const (
	maxHeader   = 1 << 20 // bytes of the line before a release
	releaseFile = "release.yaml"
)

// request is the first line of a render child's input. The release's canonical tar follows.
type request struct {
	Digest  releases.Digest `json:"digest"`
	Profile string          `json:"profile,omitempty"`
	Values  map[string]any  `json:"values,omitempty"` // from the assignment
	Own     map[string]any  `json:"own,omitempty"`    // owned by the cell
	Keys    string          `json:"keys,omitempty"`   // age keys, a line each
	Memory  int64           `json:"memory"`           // bytes beyond the process's size at its start
	CPU     uint64          `json:"cpu"`              // seconds

	LeaveEncrypted bool `json:"leaveEncrypted,omitempty"` // files that SOPS encrypted

	// Of the release, once it is rendered; nil: it has none that is valid.
	export      *export.List
	diagnostics diagnostics.Document
}

// response is the first line of a render child's output. The objects' bytes follow in order.
type response struct {
	Objects  []object `json:"objects,omitempty"`  // in the order in which to apply them
	Version  string   `json:"version,omitempty"`  // of the release, by its release.yaml
	Features []string `json:"features,omitempty"` // contained in the release, sorted
	// Components and Maintenance are as release.yaml has them, Export and Diagnostics as their own files do.
	Components  []releases.Component `json:"components,omitempty"`
	Maintenance releases.Maintenance `json:"maintenance,omitzero"`
	Export      *export.List         `json:"export,omitempty"`
	Diagnostics diagnostics.List     `json:"diagnostics,omitempty"`
	Logs        diagnostics.Logs     `json:"logs,omitempty"`
	// Kubernetes holds the release's rules for a cluster.
	Kubernetes releases.Kubernetes `json:"kubernetes,omitzero"`
	Error      string              `json:"error,omitempty"`   // why the release can't be rendered
	Owner      bool                `json:"owner,omitempty"`   // the error is for the cell's owner: a value is not set, or wrong
	Corrupt    bool                `json:"corrupt,omitempty"` // the bytes don't match the digest: fetch them again
}

// object is one manifest: the name of its file, its size in bytes, and what it describes.
type object struct {
	Name   string       `json:"name"`
	Size   int          `json:"size"`
	Object cells.Object `json:"object"`
}

// Main is the render child. It reads one release and values from stdin, and writes the manifests, or why there are
// none, to stdout. The exit code is 0 if a response was written, 2 if stdin has no request, and exitUnable, with why on
// stderr, if the machine keeps it from that; the Go runtime ends it otherwise, as at its limit of memory. The agent
// runs it as `sluice render` with an empty environment. It first limits its own memory, CPU and files, and can then
// open no connections. It refuses references outside the release before kustomize runs (fault 30).
func Main(stdin io.Reader, stdout, stderr io.Writer) int {
	if err := answer(stdin, stdout); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		if errors.Is(err, errNoRequest) {
			return 2
		}
		return exitUnable
	}
	return 0
}

// exitUnable is the exit code of a child that the machine kept from an answer: EX_OSERR of sysexits.h.
const exitUnable = 71

var errNoRequest = errors.New("read what to render")

func answer(stdin io.Reader, stdout io.Writer) error {
	disableNetwork()
	in := bufio.NewReaderSize(stdin, maxHeader)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("%w: %w", errNoRequest, err)
	}
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return fmt.Errorf("%w: %w", errNoRequest, err)
	}
	if err := limitProcess(q.Memory, q.CPU); err != nil {
		return err
	}
	var a response
	bodies, release, err := q.render(in)
	var corrupt *corruptError
	switch {
	case errors.As(err, &corrupt):
		a = response{Error: err.Error(), Corrupt: true}
	case err != nil:
		var owner *releases.OwnerValuesError
		a.Error, a.Owner = err.Error(), errors.As(err, &owner)
	default:
		a.Version, a.Features = release.Version.String(), slices.Sorted(slices.Values(release.Features))
		a.Kubernetes = release.Kubernetes
		a.Components, a.Maintenance = release.Components, release.Maintenance
		a.Export, a.Diagnostics, a.Logs = q.export, q.diagnostics.Commands, q.diagnostics.Logs
		for _, b := range bodies {
			a.Objects = append(a.Objects, object{b.name, len(b.text), b.object})
		}
	}
	return a.writeTo(stdout, bodies)
}

type body struct {
	name   string
	text   []byte
	object cells.Object
}

func (a *response) writeTo(stdout io.Writer, bodies []body) error {
	out := bufio.NewWriter(stdout)
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return err
	}
	for _, b := range bodies {
		if _, err := out.Write(b.text); err != nil {
			return err
		}
	}
	return out.Flush()
}

// disableNetwork cuts this process off from the network. It does nothing but render, and without a PATH kustomize finds
// no git.
func disableNetwork() { http.DefaultTransport = offlineTransport{} }

// offlineTransport refuses every request: a release contains all that it needs.
type offlineTransport struct{}

func (offlineTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%s: a release must contain all that it needs", r.URL.Redacted())
}

type corruptError struct{ reason string }

func (e *corruptError) Error() string { return e.reason }

func (q *request) render(tar io.Reader) ([]body, *releases.Release, error) {
	files, digest, err := releases.Unpack(tar, releases.Limits{})
	if err != nil {
		return nil, nil, &corruptError{err.Error()}
	}
	if digest != q.Digest {
		return nil, nil, &corruptError{fmt.Sprintf("the bytes have digest %s, not %s", digest, q.Digest)}
	}
	release, faults := manifest.Decode[releases.Release](releaseFile, files[releaseFile].Data)
	if err := joinFaults(faults); err != nil {
		return nil, nil, err
	}
	r := &release.Value
	if f, ok := files[export.File]; ok { // with a fault, which validate names, nothing is exported
		q.export, _ = export.Parse(export.File, f.Data)
	}
	if f, ok := files[diagnostics.File]; ok { // with a fault, no command may run and no log be read
		q.diagnostics, _ = diagnostics.Parse(diagnostics.File, f.Data)
	}
	dir, ok := r.Profile(q.Profile)
	if !ok {
		return nil, nil, fmt.Errorf("%s has no profile %q", r.Version, q.Profile)
	}
	values, err := releases.ResolveValues(r, q.Values, q.Own)
	if err != nil {
		return nil, nil, fmt.Errorf("values: %w", err)
	}
	if err := joinFaults(files.ScanKustomizations()); err != nil {
		return nil, nil, err
	}
	if !q.LeaveEncrypted {
		if err := decryptFiles(files, q.Keys); err != nil {
			return nil, nil, err
		}
	}
	resources, err := buildWithValues(files, dir, values)
	if err != nil {
		return nil, nil, err
	}
	if resources.Size() == 0 && !r.AllowEmpty {
		return nil, nil, fmt.Errorf("kustomize build %s: the result is empty, which would remove all that a cell runs: "+
			"if that is meant, say allowEmpty: true in %s", dir, releaseFile)
	}
	bodies, err := namedBodies(resources)
	return bodies, r, err
}

// joinFaults returns faults as one error with a line each, or nil. Warnings are left out.
func joinFaults(faults []releases.Fault) error {
	var lines []string
	for _, f := range faults {
		if !f.Warning {
			lines = append(lines, f.String())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(lines, "\n"))
}

func overlayValues(files releases.Files, values map[string]any) error {
	for name, f := range files {
		if path.Base(name) != ValuesFile {
			continue
		}
		text, err := valuesConfigMap(f.Data, values)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[name] = releases.File{Data: text, Mode: f.Mode}
	}
	return nil
}

func valuesConfigMap(shipped []byte, values map[string]any) ([]byte, error) {
	if len(shipped) > manifest.MaxFile {
		return nil, fmt.Errorf("is larger than %d bytes", manifest.MaxFile)
	}
	var placeholders struct {
		Data map[string]string `yaml:"data"`
	}
	if err := yaml.Unmarshal(shipped, &placeholders); err != nil {
		return nil, fmt.Errorf("must be a ConfigMap whose data are strings: %w", err)
	}
	data := map[string]string{}
	for name, v := range placeholders.Data {
		data[name] = v
	}
	for name, v := range values {
		text, err := scalarText(v)
		if err != nil {
			return nil, fmt.Errorf("value of %s: %w", name, err)
		}
		data[name] = text
	}
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata": map[string]any{
			"name":        "sluice-values",
			"annotations": map[string]string{"config.kubernetes.io/local-config": "true"},
		},
		"data": data,
	})
}

// scalarText returns a value as a string: numbers and booleans as in JSON.
func scalarText(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// buildManifests runs kustomize on the files in memory.
func buildManifests(files releases.Files, dir string) (resmap.ResMap, error) {
	disk := newFileSystem()
	for name, f := range files {
		if err := disk.WriteFile("/"+name, f.Data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, path.Join("/", dir))
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w", dir, err)
	}
	return resources, nil
}

// namedBodies names each object's file after its kind, namespace and name.
func namedBodies(resources resmap.ResMap) ([]body, error) {
	taken := map[string]bool{}
	var bodies []body
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", r.CurId(), err)
		}
		parts := []string{r.GetKind(), r.GetNamespace(), r.GetName()}
		name := fileName(parts)
		for i := 2; taken[name]; i++ { // the same kind in another API group, say
			name = fileName(append(parts, fmt.Sprint(i)))
		}
		taken[name] = true
		bodies = append(bodies, body{name, text, cells.Object{APIVersion: r.GetApiVersion(), Kind: r.GetKind(),
			Namespace: r.GetNamespace(), Name: r.GetName()}})
	}
	return bodies, nil
}

// maxFileName bounds the name of an object's file, in bytes. File systems take 255, and a name of Kubernetes has 253.
const maxFileName = 200

// fileName returns a name that every file system takes: kind-namespace-name.yaml, in lower case. A name that is too
// long ends in a hash of all of it, so that two objects never get one name for what they have in common.
func fileName(parts []string) string {
	var nonEmpty []string
	for _, p := range parts {
		if p != "" {
			nonEmpty = append(nonEmpty, p)
		}
	}
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(strings.Join(nonEmpty, "-")))
	if len(safe) > maxFileName {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
		safe = safe[:maxFileName-17] + "-" + hex.EncodeToString(sum[:8])
	}
	return safe + ".yaml"
}
