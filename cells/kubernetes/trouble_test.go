package kubernetes_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/test/cluster"
)

// many returns ConfigMaps with one value.
func many(n int, value string) string {
	var all []string
	for i := range n {
		all = append(all, configMap(fmt.Sprintf("c-%04d", i), value))
	}
	return documents(all...)
}

// The API server goes away in the middle of an apply and comes back, its store is restarted, and nothing is lost.
func TestAPIServerGoesAndComesBack(t *testing.T) {
	c := cluster.New(t, 1)
	w := newWorld(t, c)
	first := release("1.0.0", many(50, "1"))
	w.install(t, first)
	second := release("1.1.0", many(50, "2"))
	var writes atomic.Int64
	reached, goOn := make(chan struct{}), make(chan struct{})
	w.options.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch && writes.Add(1) == 20 {
				close(reached)
				<-goOn
			}
			return next.RoundTrip(r)
		})
	}
	w.open(t)
	done := make(chan error, 1)
	go func() { done <- w.target.Apply(t.Context(), second) }()
	<-reached
	c.StopAPIServer()
	close(goOn)
	err := <-done
	var unavailable *cells.UnavailableError
	if !errors.As(err, &unavailable) || cells.CauseOf(err) != cells.CauseCell {
		t.Errorf("apply says %v", err)
	}
	eventually(t, "health can't look", func() error {
		if err := w.target.Health(t.Context()); !errors.As(err, &unavailable) {
			return fmt.Errorf("health says %v", err)
		}
		return nil
	})
	must(t, c.StartAPIServer(t.Context()))
	eventually(t, "applied", func() error { return w.target.Apply(t.Context(), second) })
	w.awaitHealthy(t)
	w.settle(t, second)
	for name, value := range w.values(t) {
		if value != "2" {
			t.Errorf("%s has %s", name, value)
		}
	}
	c.StopEtcd()
	c.StopAPIServer()
	must(t, errors.Join(c.StartEtcd(), c.StartAPIServer(t.Context())))
	w.kubectl(t, "delete", "configmap", "c-0001")
	w.healUntil(t, second, "healed after a restart of the store", func() error {
		if !w.has(t, "configmap", "c-0001") {
			return errors.New("not yet")
		}
		return nil
	})
}

// counted counts the requests of a world's target by their kind.
func (w *world) counted(t *testing.T) (writes, all *atomic.Int64) {
	t.Helper()
	writes, all = new(atomic.Int64), new(atomic.Int64)
	w.options.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/leases") { // renewed from time to time, whatever else happens
				return next.RoundTrip(r)
			}
			all.Add(1)
			if r.Method != http.MethodGet && r.Method != http.MethodPost {
				writes.Add(1)
			}
			return next.RoundTrip(r)
		})
	}
	w.open(t)
	return writes, all
}

// An apply of what is there writes nothing, and neither does a heal; one changed object is one write. At rest nothing
// is asked.
func TestNothingIsWrittenWithoutNeed(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.install(t, release("1.0.0", documents(many(30, "1"), deployment("web", "web:1"))))
	writes, all := w.counted(t)
	w.install(t, release("1.1.0", documents(many(30, "1"), deployment("web", "web:1"))))
	if n := writes.Load(); n != 0 {
		t.Errorf("%d writes for the same objects in another release", n)
	}
	w.install(t, release("1.2.0", documents(many(30, "1"), deployment("web", "web:2"))))
	if n := writes.Load(); n != 1 {
		t.Errorf("%d writes for one changed object", n)
	}
	before := all.Load()
	for range 20 {
		w.settle(t, release("1.2.0", documents(many(30, "1"), deployment("web", "web:2"))))
		must(t, w.target.Health(t.Context()))
	}
	if n := all.Load() - before; n != 0 {
		t.Errorf("%d requests at rest", n)
	}
}

// webhook is an admission webhook of the cluster.
type webhook struct {
	calls  atomic.Int64
	answer func(object map[string]any) (patch string, wait time.Duration)
}

// newWebhook makes the cluster call a mutating webhook for ConfigMaps of the world's namespace.
func newWebhook(t *testing.T, w *world, timeoutSeconds int, answer func(map[string]any) (string, time.Duration)) {
	t.Helper()
	hook := &webhook{answer: answer}
	certificate, authority := loopbackCertificate(t)
	server := httptest.NewUnstartedServer(hook)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	name := "w-" + w.namespace
	w.Run(t, fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: %s}
webhooks:
- name: w.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: %d
  reinvocationPolicy: Never
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
  clientConfig: {url: %q, caBundle: %s}
`, name, timeoutSeconds, w.namespace, server.URL, base64.StdEncoding.EncodeToString(authority)), "apply", "-f", "-")
	t.Cleanup(func() { // or it would stop the other tests
		if out, err := w.Kubectl(context.Background(), "", "delete", "mutatingwebhookconfiguration", name); err != nil {
			t.Error(out, err)
		}
	})
	eventually(t, "the webhook is called", func() error {
		_, _ = w.Kubectl(t.Context(), "", "-n", w.namespace, "create", "configmap", "probe", "--dry-run=server")
		if hook.calls.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
}

func (h *webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h.calls.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	var review struct {
		Request struct {
			UID    string         `json:"uid"`
			Object map[string]any `json:"object"`
		} `json:"request"`
	}
	if err != nil || json.Unmarshal(body, &review) != nil {
		http.Error(rw, "no review", http.StatusBadRequest)
		return
	}
	response := map[string]any{"uid": review.Request.UID, "allowed": true}
	patch, wait := h.answer(review.Request.Object)
	if patch != "" {
		response["patchType"], response["patch"] = "JSONPatch", []byte(patch)
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
	}
	_ = json.NewEncoder(rw).Encode(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"response": response})
}

// loopbackCertificate returns a certificate for 127.0.0.1 that is its own authority, in PEM.
func loopbackCertificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "webhook"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// A webhook that rewrites an applied field, each time in another way, makes no loop.
func TestMutatingWebhook(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	var n atomic.Int64
	newWebhook(t, w, 10, func(object map[string]any) (string, time.Duration) {
		if _, ok := object["data"]; !ok {
			return "", 0
		}
		return fmt.Sprintf(`[{"op":"replace","path":"/data/value","value":"rewritten %d"}]`, n.Add(1)), 0
	})
	writes, _ := w.counted(t)
	r := release("1.0.0", documents(configMap("a", "1"), configMap("b", "1")))
	w.install(t, r)
	if got := w.values(t)["a"]; !strings.HasPrefix(got, "rewritten") {
		t.Fatalf("it has %q", got)
	}
	for range 20 {
		w.settle(t, r)
	}
	if n := writes.Load(); n != 2 {
		t.Errorf("%d writes for two objects", n)
	}
}

// A webhook that times out is no fault of the release: the apply waits, and what is applied meanwhile stays known.
func TestWebhookTimesOut(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	var hang atomic.Bool
	newWebhook(t, w, 1, func(map[string]any) (string, time.Duration) {
		if hang.Load() {
			return "", time.Minute
		}
		return "", 0
	})
	hang.Store(true)
	r := release("1.0.0", documents(configMap("a", "1"),
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa}\n"))
	err := w.target.Apply(t.Context(), r)
	var unavailable *cells.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "w.example.com") {
		t.Errorf("apply says %v", err)
	}
	w.wantThere(t, true, "serviceaccount", "sa")
	hang.Store(false)
	w.install(t, r)
}

// Forbidden in the middle: the rights that the preflight found are gone. The cell is at fault, and it is no retry for
// ever.
func TestForbiddenInTheMiddle(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	user := "agent-" + w.namespace
	w.kubectl(t, "create", "role", "agent", "--verb=*", "--resource=configmaps,services,leases")
	w.kubectl(t, "create", "rolebinding", "agent", "--role=agent", "--user="+user)
	w.options.Config.Impersonate = rest.ImpersonationConfig{UserName: user}
	w.open(t)
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: %d}]}\n"
	good := release("1.0.0", documents(configMap("a", "1"), fmt.Sprintf(service, 80)))
	w.install(t, good)
	w.kubectl(t, "delete", "role", "agent")
	w.kubectl(t, "create", "role", "agent", "--verb=*", "--resource=configmaps,leases")
	w.kubectl(t, "create", "role", "look", "--verb=get,list,watch", "--resource=services")
	w.kubectl(t, "create", "rolebinding", "look", "--role=look", "--user="+user)
	eventually(t, "the right is gone", func() error {
		out, _ := w.Kubectl(t.Context(), "", "-n", w.namespace, "auth", "can-i", "patch", "services", "--as", user)
		if !strings.HasPrefix(out, "no") {
			return errors.New(out)
		}
		return nil
	})
	err := w.target.Apply(t.Context(), release("1.1.0", documents(configMap("a", "2"), fmt.Sprintf(service, 81))))
	if err == nil || cells.CauseOf(err) != cells.CauseCell ||
		!strings.Contains(err.Error(), "Service "+w.namespace+"/s") {
		t.Errorf("apply says %v", err)
	}
	w.install(t, back(good)) // the Service is as it was, so nothing is written to it
}

// A version of an API that is no longer served: what the release before had by it is still found and removed.
func TestAPIVersionIsRemoved(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	group := "v" + w.namespace[:8] + ".example.com"
	name := "widgets." + group
	w.Run(t, definition(group, "Widget", "v1", "v1beta1"), "apply", "-f", "-")
	w.Run(t, "", "wait", "--for=condition=Established", "crd", name, "--timeout=60s")
	widget := func(version string) string {
		return "apiVersion: " + group + "/" + version + "\nkind: Widget\nmetadata: {name: w}\n"
	}
	old := release("1.0.0", documents(widget("v1beta1"), configMap("a", "1")))
	w.install(t, old)
	w.Run(t, "", "patch", "crd", name, "--type=json", "-p",
		`[{"op":"replace","path":"/spec/versions/1/served","value":false}]`)
	w.open(t)
	eventually(t, "it is said", func() error {
		_, err := w.target.Heal(t.Context(), old)
		var unavailable *cells.UnavailableError
		if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "but version v1") {
			w.open(t)
			return fmt.Errorf("heal says %v", err)
		}
		return nil
	})
	w.install(t, release("1.1.0", documents(widget("v1"), configMap("a", "1"))))
	w.install(t, release("1.2.0", configMap("a", "1")))
	w.wantThere(t, false, name, "w")
}

// The inventory is lost or damaged: what runs is recognised, nothing is removed that is not known, and it is said.
func TestInventoryIsLost(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"lost":    os.Remove,
		"damaged": func(file string) error { return os.WriteFile(file, []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, shared.Get(t))
			w.install(t, release("1.0.0", documents(configMap("a", "1"), configMap("b", "1"))))
			w.target.Close()
			must(t, damage(filepath.Join(w.options.StateDir, "kubernetes.json")))
			w.open(t)
			r := release("1.1.0", configMap("a", "2"))
			w.install(t, r)
			w.wantThere(t, true, "configmap", "a", "b")
			notes := strings.Join(w.target.Notes(), "")
			if (name == "damaged") != strings.Contains(notes, "put aside") {
				t.Errorf("the notes are %q", notes)
			}
			w.install(t, release("1.2.0", configMap("c", "1")))
			w.wantThere(t, false, "configmap", "a") // known again, as its own
		})
	}
}

// A cell that was renamed keeps its objects, under its new label.
func TestCellIsRenamed(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	r := release("1.0.0", documents(configMap("a", "1"), configMap("b", "1")))
	w.install(t, r)
	w.options.Cell += "-x"
	w.open(t)
	_, err := w.target.Heal(t.Context(), r)
	must(t, err)
	w.install(t, release("1.1.0", configMap("a", "1")))
	if got := w.kubectl(t, "get", "configmaps", "-l", "sluice/cell="+w.options.Cell, "-o",
		"name"); got != "configmap/a" {
		t.Errorf("with the new label there is %q", got)
	}
	w.wantThere(t, false, "configmap", "b")
}

// A large release: thousands of objects are applied, watched and removed, in bounded memory.
func TestManyObjects(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	const n = 5000
	start := time.Now()
	w.install(t, release("1.0.0", many(n, "1")))
	t.Logf("%d objects from nothing: %s", n, time.Since(start))
	start = time.Now()
	w.install(t, release("1.1.0", many(n, "1")))
	t.Logf("nothing changed: %s", time.Since(start))
	last := release("1.2.0", many(1, "1"))
	last.Kubernetes.RemoveMost = true
	start = time.Now()
	w.install(t, last)
	t.Logf("removed: %s", time.Since(start))
	if got := len(w.values(t)); got != 1 {
		t.Errorf("%d are left", got)
	}
}
