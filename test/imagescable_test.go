package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/debian"
)

// The vendor's registry is at an address that the control plane's machine alone has, and that nothing routes to.
const (
	registryAddress = "10.78.0.1"
	vendorRegistry  = registryAddress + ":5443"
)

// A cluster is behind one cable, and no registry is at the other end: only the control plane, which has one. Its agent
// installs a release and updates to the next. Debian's containerd pulls the images of its pods by the node part, which
// told it so, and skopeo by the agent itself. The cell begins no connection but those to the control plane, and each
// blob leaves the registry once.
func TestClusterPullsOverOneCable(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		t.Parallel()
		for _, p := range []string{"containerd", "docker-registry", "skopeo"} {
			if err := debian.Program(t.Context(), p, p); err != nil {
				t.Fatal(err)
			}
		}
		enterNamespace(t)
		return
	}
	cable := newCable(t, end{"cell", cellAddress}, end{"plane", planeAddress})
	w := newWorld(t, func(files map[string]string) {
		delete(files, "cells/acme/cell.yaml")
		delete(files, "cells/eu-1/cell.yaml")
	})
	v := startVendorRegistry(t, w, cable)
	listen := planeAddress + ":7443"
	w.server.prefix = cable.enterThere()
	w.server.environment = []string{"SSL_CERT_FILE=" + v.certificate}
	w.server.args = append(w.server.args, "--cells", listen, "--registries", w.path("config.json"))
	w.server.start()
	w.eventually(func() (string, bool) {
		return "the control plane is not ready", w.getJSON("/readyz", new([]byte)) == nil
	})
	c := cluster.New(t, 1)
	installAgent(t, c, "--node", "--images-from", vendorRegistry)
	local, onNode := freePort(t), freePort(t)
	w.agents["acme"] = w.process("acme", "agent", "--join", "@"+w.addCell("acme", "staging"), "--target", "kubernetes",
		"--kubeconfig", w.kubeconfigOf(c, "sluice-agent"), "--namespace", "shop", "--state", w.path("states", "acme"),
		"--images-listen", local, "--images-nodes", freePort(t), "--nodes", "sluice-node/sluice-node",
		"--healthy-for", "1s", "--health-every", "500ms", "--report-every", "500ms")
	w.agents["acme"].start()
	machine := &containerd{w: w, socket: w.path("c.sock"), dir: w.path("containerd")}
	w.process("node", "node", "--configmap", "sluice-node/sluice-node", "--state", w.path("states", "node"),
		"--kubeconfig", w.kubeconfigOf(c, "sluice-node"), "--listen", "unix://"+w.path("node.f"),
		"--images-listen", onNode, "--images-registry", vendorRegistry, "--images-hosts", machine.hosts()).start()
	machine.start()

	for _, version := range []string{"1.0.0", "1.1.0"} {
		image := vendorRegistry + "/team/app@" + v.push("team/app")
		w.pushFiles("cut "+version, clusterRelease(version, image))
		w.eventually(func() (string, bool) {
			s := w.cellStatus("acme")
			return fmt.Sprintf("acme is %s on %s: %s", s.State, s.Release, s.Message),
				s.Release == version && s.State == "healthy"
		})
		inPods := strings.Fields(c.Run(t, "", "-n", "shop", "get", "deployment", "web", "-o",
			"jsonpath={.spec.template.spec.containers[*].image}"))
		if len(inPods) != 1 || inPods[0] != image {
			t.Fatalf("the pods of %s have %q, not %s", version, inPods, image)
		}
		machine.pull(inPods[0])
		if out, err := skopeo(t, strings.Replace(image, vendorRegistry, local, 1)); err != nil {
			t.Errorf("skopeo: %v\n%s", err, out)
		}
	}
	if out, err := machine.tryPull(vendorRegistry + "/team/app:latest"); err == nil {
		t.Errorf("a tag was pulled:\n%s", out)
	}
	wantDenied(t, c, "sluice-node", []string{"get", "secrets/sluice-node-images", "-n", "sluice-node"},
		[]string{"watch", "secrets/sluice-join", "-n", "sluice"},
		[]string{"patch", "secrets/sluice-node-images", "-n", "sluice-node"})
	wantDenied(t, c, "sluice-agent", []string{"get", "secrets/sluice-node-images", "-n", "sluice-node"})

	begun := cable.begunConnections()
	plane := netip.MustParseAddrPort(listen)
	for one, n := range begun {
		if one.to != plane || one.from.String() != cellAddress {
			t.Errorf("%d connections were begun from %s to %s", n, one.from, one.to)
		}
	}
	if len(begun) == 0 {
		t.Error("the capture saw no connection at all: it proves nothing")
	}
	t.Logf("connections begun on the cable: %v", begun)
	v.checkOnce()
}

// vendor is Debian's registry in the control plane's namespace, with TLS.
type vendor struct {
	w           *world
	cable       *cable
	certificate string // file
	log         string // file
}

func startVendorRegistry(t *testing.T, w *world, c *cable) *vendor {
	t.Helper()
	c.runThere(t, "ip", "address", "add", registryAddress+"/32", "dev", "lo")
	v := &vendor{w: w, cable: c, certificate: w.path("registry.pem"), log: w.path("registry.log")}
	key := w.path("registry.key")
	writeServerCertificate(t, v.certificate, key)
	files := map[string]string{
		"registry.yml": fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\n"+
			"http: {addr: %q, tls: {certificate: %s, key: %s}}\n", w.path("registry"), vendorRegistry, v.certificate, key),
		"config.json": fmt.Sprintf(`{"auths": {%q: {}}}`, vendorRegistry),
	}
	for name, text := range files {
		if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startProgram(w, append(c.enterThere(), "docker-registry", "serve", w.path("registry.yml")), v.log)
	return v
}

// startProgram runs a program until the test ends.
func startProgram(w *world, line []string, logFile string) {
	w.t.Helper()
	log, err := os.Create(logFile) //nolint:gosec // a test's
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(line[0], line[1:]...) //nolint:gosec,noctx // killed in the end
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		_ = log.Close()
	})
}

// writeServerCertificate writes a certificate for the registry's address, which is its own authority.
func writeServerCertificate(t *testing.T, certificate, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.ParseIP(registryAddress)}, IsCA: true,
		BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der},
		keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// push pushes a new image from the control plane's side, and returns its digest.
func (v *vendor) push(repository string) string {
	t := v.w.t
	t.Helper()
	image, err := random.Image(300_000, 3)
	var digest v1.Hash
	if err == nil {
		digest, err = image.Digest()
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	line := append(v.cable.enterThere(), "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+dir,
		"docker://"+vendorRegistry+"/"+repository+":latest")
	v.w.eventually(func() (string, bool) { // the registry may still start
		out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput() //nolint:gosec // a test's
		return fmt.Sprintf("push: %v: %s", err, out), err == nil
	})
	return digest.String()
}

var pulledBlob = regexp.MustCompile(`"GET (/v2/\S+/(?:blobs|manifests)/sha256:[0-9a-f]{64})\S* HTTP/[0-9.]+" 20[06]`)

// checkOnce checks by the registry's log that all content left it once.
func (v *vendor) checkOnce() {
	v.w.t.Helper()
	text, err := os.ReadFile(v.log)
	if err != nil {
		v.w.t.Fatal(err)
	}
	times := map[string]int{}
	for _, m := range pulledBlob.FindAllSubmatch(text, -1) {
		times[string(m[1])]++
	}
	if want := 2 * 5; len(times) != want { // a manifest, a configuration, three layers
		v.w.t.Errorf("%d digests left the registry, not %d:\n%s", len(times), want, text[max(0, len(text)-3000):])
	}
	for path, n := range times {
		if n != 1 {
			v.w.t.Errorf("%s left the registry %d times", path, n)
		}
	}
}

// containerd is Debian's containerd on the cell's machine.
type containerd struct {
	w           *world
	socket, dir string
}

// hosts is the folder of what containerd knows of registries.
func (c *containerd) hosts() string { return filepath.Join(c.dir, "certs.d") }

func (c *containerd) start() {
	w := c.w
	w.t.Helper()
	config := filepath.Join(c.dir, "config.toml")
	err := os.MkdirAll(c.dir, 0o700)
	if err == nil {
		err = os.WriteFile(config, fmt.Appendf(nil, "version = 2\nroot = %q\nstate = %q\n"+
			"disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n"+
			"[plugins.\"io.containerd.internal.v1.opt\"]\npath = %q\n", filepath.Join(c.dir, "root"),
			filepath.Join(c.dir, "state"), c.socket, c.socket+".ttrpc", filepath.Join(c.dir, "opt")), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	startProgram(w, []string{"containerd", "--config", config}, w.path("containerd.log"))
	w.eventually(func() (string, bool) {
		out, err := c.ctr("version")
		return out, err == nil
	})
}

func (c *containerd) ctr(args ...string) (string, error) {
	cmd := exec.CommandContext(c.w.t.Context(), "ctr", append([]string{"--address", c.socket}, args...)...) //nolint:gosec
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *containerd) tryPull(reference string) (string, error) {
	return c.ctr("images", "pull", "--hosts-dir", c.hosts(), "--snapshotter", "native", reference)
}

// pull pulls and unpacks an image, and checks that all of it is there.
func (c *containerd) pull(reference string) {
	c.w.t.Helper()
	if out, err := c.tryPull(reference); err != nil {
		c.w.t.Fatalf("containerd does not pull %s: %v\n%s\n%s", reference, err, out, c.w.describe())
	}
	out, err := c.ctr("images", "check", "--snapshotter", "native", "name=="+reference)
	if err != nil || !strings.Contains(out, "complete (4/4)") {
		c.w.t.Errorf("images check: %v\n%s", err, out)
	}
}
