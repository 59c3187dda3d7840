package kubernetes_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-cd/sluice/cells/kubernetes"
)

func secretManifest(name, field, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\n%s: {password: %s}\n", name, field, value)
}

// compare compares a release with the cluster as the owner's command does: beside the agent, whose target stays open.
// It fails if anything was written.
func (w *world) compare(t *testing.T, version, manifests string) kubernetes.Comparison {
	t.Helper()
	inventory := filepath.Join(w.options.StateDir, "kubernetes.json")
	before, _ := os.ReadFile(inventory) // there may be none
	var writes atomic.Int64
	beside := w.options
	beside.Config = configOf(t, w.Cluster)
	beside.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			isReview := strings.Contains(r.URL.Path, "/selfsubject")
			if r.Method != http.MethodGet && !isReview && r.URL.Query().Get("dryRun") != "All" {
				writes.Add(1)
			}
			return next.RoundTrip(r)
		})
	}
	target, err := kubernetes.New(beside)
	must(t, err)
	defer target.Close()
	found, err := target.Compare(t.Context(), release(version, manifests))
	must(t, err)
	after, _ := os.ReadFile(inventory)
	if n := writes.Load(); n > 0 || !bytes.Equal(before, after) {
		t.Errorf("a comparison made %d writes; the inventory is the same: %t", n, bytes.Equal(before, after))
	}
	return found
}

// wantChanges compares the kinds of changes, by object without its namespace.
func (w *world) wantChanges(t *testing.T, found kubernetes.Comparison, want map[string]kubernetes.ChangeKind) {
	t.Helper()
	got := map[string]kubernetes.ChangeKind{}
	for _, c := range found.Changes {
		name := strings.ReplaceAll(c.Object, " "+w.namespace+"/", " ")
		got[name] = c.Kind
		if want[name] != c.Kind {
			t.Errorf("%s is %s (%s), want %q", name, c.Kind, c.Reason, want[name])
		}
	}
	for name, kind := range want {
		if got[name] == "" {
			t.Errorf("%s is not among the changes, want %s", name, kind)
		}
	}
}

// The owner sees, before approving, what the API server would make of each object; nothing is written, and no value of
// a Secret is shown.
func TestCompare(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.Run(t, configMap("theirs", "1"), "-n", w.namespace, "create", "-f", "-")
	stays := deployment("server", "web:1")
	w.install(t, release("1.0.0", documents(configMap("a", "1"), configMap("gone", "1"), configMap("theirs", "1"),
		configMap("same", "1"), secretManifest("key", "stringData", "opensesame"), stays)))
	w.kubectl(t, "patch", "configmap", "same", "-p", `{"data":{"value":"drifted"}}`)
	next := documents(configMap("a", "2"), configMap("same", "1"), configMap("new", "1"),
		secretManifest("key", "stringData", "swordfish"), strings.ReplaceAll(stays, "0.5Gi", "512Mi"),
		"apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec: {ports: [{port: 99999}]}\n",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: "+w.namespace+"-more}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: inside, namespace: "+w.namespace+"-more}\n",
		secretManifest("odd", "data", "trustno1!"),
		`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.compare.example.com}
spec:
  group: compare.example.com
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`, "apiVersion: compare.example.com/v1\nkind: Thing\nmetadata: {name: one}\n",
		`apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {sluice/hook: before}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: x, image: "x:1"}]}}}
`)
	found := w.compare(t, "1.1.0", next)
	for i, c := range found.Changes { // the name of a hook's run has a hash
		if strings.HasPrefix(c.Object, "Job ") {
			found.Changes[i].Object = "Job migrate"
		}
	}
	w.wantChanges(t, found, map[string]kubernetes.ChangeKind{"ConfigMap a": kubernetes.Changed,
		"ConfigMap gone": kubernetes.Removed, "ConfigMap theirs": kubernetes.Kept, "ConfigMap same": kubernetes.Changed,
		"ConfigMap new": kubernetes.Added, "Secret key": kubernetes.Changed, "Service odd": kubernetes.Refused,
		"Namespace " + w.namespace + "-more": kubernetes.Added, "Secret odd": kubernetes.Refused,
		"ConfigMap " + w.namespace + "-more/inside":           kubernetes.Added,
		"CustomResourceDefinition things.compare.example.com": kubernetes.Added, "Thing one": kubernetes.Added,
		"Job migrate": kubernetes.Added})
	if found.Unchanged != 1 || len(found.Problems) > 0 { // the Deployment, though its manifest is spelled otherwise
		t.Errorf("%d are unchanged, problems: %q", found.Unchanged, found.Problems)
	}
	all := fmt.Sprintf("%+v", found)
	for _, c := range found.Changes {
		all += string(c.Before) + string(c.After) + c.Reason
	}
	for _, value := range []string{"opensesame", "b3BlbnNlc2FtZQ", "swordfish", "c3dvcmRmaXNo", "trustno1"} {
		if strings.Contains(all, value) {
			t.Errorf("the comparison shows %s", value)
		}
	}
	for _, text := range []string{"password: (hidden, before)", "password: (hidden, after)", "value: drifted",
		"99999"} {
		if !strings.Contains(all, text) {
			t.Errorf("the comparison does not say %q", text)
		}
	}
	w.wantThere(t, false, "configmap", "new")
}

// What keeps a release as a whole from being applied is said beside its objects. A conflict names the field's owner.
func TestCompareProblems(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	found := w.compare(t, "1.0.0", configMap("a", "1")) // nothing runs yet
	w.wantChanges(t, found, map[string]kubernetes.ChangeKind{"ConfigMap a": kubernetes.Added})
	w.install(t, release("1.0.0", many(8, "1")))
	w.Run(t, configMap("theirs", "0"), "-n", w.namespace, "apply", "--server-side", "-f", "-")
	found = w.compare(t, "1.1.0", documents(configMap("c-0000", "1"), configMap("theirs", "1")))
	if len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "would remove 7 of 8 objects") {
		t.Errorf("problems: %q", found.Problems)
	}
	for _, c := range found.Changes {
		if strings.HasSuffix(c.Object, "/theirs") &&
			(c.Kind != kubernetes.Refused || !strings.Contains(c.Reason, ".data.value belongs to kubectl")) {
			t.Errorf("a conflict: %s: %s", c.Kind, c.Reason)
		}
	}
	known, ok, err := kubernetes.ReadKnown(w.options.StateDir)
	if !ok || err != nil || known.Cell != w.namespace || known.Namespace != w.namespace {
		t.Errorf("known: %+v, %t, %v", known, ok, err)
	}
	if _, ok, err := kubernetes.ReadKnown(t.TempDir()); ok || err != nil {
		t.Errorf("a new folder: %t, %v", ok, err)
	}
}

// No value of a Secret is in what people are shown, whichever way it is written.
func TestHideSecrets(t *testing.T) {
	secret := func(rest string) []byte { return []byte("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n" + rest) }
	for name, c := range map[string]struct {
		before, after []byte
		want          string // of both, joined
	}{
		"added":    {nil, secret("stringData: {a: x}"), "a: (hidden)"},
		"removed":  {secret("data: {a: eA==}"), nil, "a: (hidden)"},
		"the same": {secret("data: {a: eA==}"), secret("stringData: {a: x}"), "a: (hidden)"},
		"changed":  {secret("data: {a: eA==}"), secret("data: {a: eQ==}"), "a: (hidden, after)"},
		"no text":  {nil, secret("data: {a: 7, b: [x]}"), "a: (hidden)"},
		"by kubectl": {nil, secret("metadata: {name: s, annotations: {" +
			"kubectl.kubernetes.io/last-applied-configuration: 'a: x'}}"), ""},
		"another kind first": {[]byte("apiVersion: v1\nkind: ConfigMap\n"), secret("data: {a: eA==}"), "a: (hidden)"},
		"no Secret":          {nil, []byte("apiVersion: v1\nkind: ConfigMap\ndata: {a: x}\n"), "{a: x}"},
	} {
		if name == "by kubectl" {
			c.after = bytes.Replace(c.after, []byte("metadata: {name: s}\n"), nil, 1)
			c.want = "configuration: (hidden)"
		}
		was, is := kubernetes.HideSecrets(c.before, c.after)
		all := string(was) + string(is)
		if !strings.Contains(all, c.want) || (was == nil) != (c.before == nil) || (is == nil) != (c.after == nil) {
			t.Errorf("%s: %s", name, all)
		}
		for _, value := range []string{"eA==", "eQ==", "a: x", "a: 7"} {
			if name != "no Secret" && strings.Contains(all, value) {
				t.Errorf("%s: shows %s:\n%s", name, value, all)
			}
		}
		if name == "the same" && !bytes.Equal(was, is) {
			t.Errorf("%s: differ:\n%s", name, all)
		}
	}
}
