package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/cluster"
)

// source is a state of a project's manifests, from a Go module, which the Go toolchain downloads and keeps: only names,
// versions and sums are here. All are under the Apache License 2.0.
type source struct {
	module, sum string
	files       []string
}

// read returns the documents of the manifests.
func (s source) read(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", s.module)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var found struct{ Dir, Sum string }
	if err := errors.Join(err, json.Unmarshal(out, &found)); err != nil {
		t.Fatalf("download %s: %v: %s", s.module, err, out)
	}
	if found.Sum != s.sum {
		t.Fatalf("%s has the sum %s, not %s", s.module, found.Sum, s.sum)
	}
	var all []string
	for _, file := range s.files {
		text, err := os.ReadFile(filepath.Join(found.Dir, file))
		must(t, err)
		for document := range strings.SplitSeq(string(bytes.TrimPrefix(text, []byte("---\n"))), "\n---") {
			if strings.Contains(document, "\nkind:") || strings.HasPrefix(document, "kind:") { // else comments alone
				all = append(all, document)
			}
		}
	}
	return documents(all...)
}

const (
	knative014 = "knative.dev/serving@v0.42.2" // has cert-manager 1.14
	knative018 = "knative.dev/serving@v0.51.0" // has cert-manager 1.18
	argo       = "github.com/argoproj/argo-cd/v3@v3.5.7"
	argoSum    = "h1:Xm1BF+I5OgDKUG3SDK49vn2/Y5AMyaNVko+/JT08gj0="
	nginx      = "k8s.io/ingress-nginx@v0.0.0-20240708192948-52c50467d67d"
	nginxSum   = "h1:tZui5g6S4GO1hxLm6yrEoIXLkl4QfeGytlmZqZ+DmdQ="
	podinfo    = "github.com/stefanprodan/podinfo@v1.8.1-0.20250910200901-e86405a8674e"
	podinfoSum = "h1:ikpMMm5HbQT/1DehrPM+Lpwk3WAw/1Hg540eR+jsXus="
)

// What others wrote goes in, is updated, and goes out again: as it is, with its definitions, webhooks and Jobs. Nothing
// of it drifts by itself, and nothing stays.
func TestManifestsOfOtherProjects(t *testing.T) {
	for name, versions := range map[string][]source{
		"podinfo": {
			{podinfo, podinfoSum, []string{"deploy/bases/backend/deployment.yaml", "deploy/bases/backend/hpa.yaml",
				"deploy/bases/backend/service.yaml"}},
			{podinfo, podinfoSum, []string{"kustomize/deployment.yaml", "kustomize/hpa.yaml",
				"kustomize/service.yaml"}},
		},
		"ingress-nginx": {
			{nginx, nginxSum, []string{"deploy/static/provider/kind/deploy.yaml"}},
			{nginx, nginxSum, []string{"deploy/static/provider/baremetal/deploy.yaml"}},
		},
		"cert-manager": {
			{knative014, "h1:yKieg3MeNvpVz+4JJPbvmpee3v3LK3zO5h5HJBtzaNk=",
				[]string{"third_party/cert-manager-latest/cert-manager.yaml"}},
			{knative018, "h1:yN2Q7eYqJgoPfZkATjoBZyGbZ2P1Qhns9HIMU4mF+to=",
				[]string{"third_party/cert-manager-latest/cert-manager.yaml"}},
		},
		"argo-cd": {
			{argo, argoSum, []string{"manifests/install.yaml"}},
			{argo, argoSum, []string{"manifests/ha/install.yaml"}}, // some of its Deployments become StatefulSets
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cluster.New(t, 3))
			w.Run(t, "", "label", "nodes", "--all", "--overwrite", "kubernetes.io/os=linux", "ingress-ready=true")
			for i, s := range versions {
				r := release([]string{"1.0.0", "1.1.0"}[i], s.read(t))
				began := time.Now()
				must(t, w.target.Apply(t.Context(), r))
				w.awaitHealthy(t)
				w.settle(t, r)
				w.healUntil(t, r, "nothing drifts", func() error { return nil })
				t.Logf("%d objects of %v within %s", len(r.Files), s.files, time.Since(began).Round(time.Second))
				w.fillIn(t)
				w.settle(t, r)
			}
			last := release("2.0.0", configMap("nothing", "else"))
			last.Kubernetes = releases.Kubernetes{RemoveMost: true,
				Prune: []string{"CustomResourceDefinition", "Namespace"}}
			must(t, w.target.Apply(t.Context(), last))
			last.Proven = true
			w.healUntil(t, last, "all is gone", func() error {
				if notes := w.target.Notes(); len(notes) > 0 {
					return errors.New(strings.Join(notes, "; "))
				}
				return nil
			})
			left := w.Run(t, "", "get", "crds,namespaces,clusterroles,clusterrolebindings,deployments,statefulsets,"+
				"services,serviceaccounts,roles,rolebindings,jobs,networkpolicies,validatingwebhookconfigurations,"+
				"mutatingwebhookconfigurations,ingressclasses,horizontalpodautoscalers,secrets", "-A", "-o", "name", "-l",
				"sluice/cell="+w.options.Cell)
			if left != "" {
				t.Errorf("stays: %s", left)
			}
		})
	}
}

// fillIn does what controllers do with objects of others: it sets the certificates of webhooks.
func (w *world) fillIn(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"validatingwebhookconfiguration", "mutatingwebhookconfiguration"} {
		names := w.Run(t, "", "get", kind, "-o", "name", "-l", "sluice/cell="+w.options.Cell)
		for name := range strings.FieldsSeq(names) {
			w.Run(t, "", "patch", name, "--type", "json", "--field-manager", "cainjector", "-p",
				`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"eA=="}]`)
		}
	}
}
