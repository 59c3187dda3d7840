package test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/cluster/kubelet"
)

// newSupportedCluster starts a control plane, and the agent of the cell acme in a cluster with the rights that the
// printed manifest gives it. The cell runs a release, and ada may ask for debug access.
func newSupportedCluster(t *testing.T) (*world, *cluster.Cluster) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(files map[string]string) {
		delete(files, "cells/acme/cell.yaml")
		delete(files, "cells/eu-1/cell.yaml")
		files["sluice.yaml"] += fmt.Sprintf("people:\n  ada: {email: ada@example.com, keys: [%q]}\n",
			strings.TrimSpace(string(ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(public))))))
	})
	key := pem.EncodeToMemory(must(ssh.MarshalPrivateKey(private, "")))
	if err := os.WriteFile(w.path("ada"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.args = append(w.server.args, "--cells", freePort(t))
	w.server.start()
	w.eventually(func() (string, bool) {
		return "the control plane is not ready", w.getJSON("/readyz", new([]byte)) == nil
	})
	c := cluster.New(t, 1)
	installAgent(t, c)
	w.agents["acme"] = w.process("acme", "agent", "--join", "@"+w.addCell("acme", "staging"), "--target", "kubernetes",
		"--kubeconfig", w.kubeconfigOf(c, "sluice-agent"), "--namespace", "shop", "--state", w.path("states", "acme"),
		"--healthy-for", "1s", "--health-every", "500ms", "--report-every", "500ms").start()
	w.pushFiles("cut 1.0.0", clusterRelease("1.0.0", "web:1"))
	w.awaitHealthyOn("acme", "1.0.0")
	return w, c
}

// askForLogs has ada ask for logs, and the owner, who reads which these are, permit it. It returns the request's ID.
func (w *world) askForLogs() string {
	w.t.Helper()
	asked := w.mustRunSluice("debug", "request", "acme", "--case", "4711", "--reason", "What it logs", "--scope",
		"logs", "--for", "10m", "--as", "ada", "--key", w.path("ada"), "-o", "json")
	id := regexp.MustCompile(`"id": "([0-9a-f]+)"`).FindStringSubmatch(asked)
	if id == nil {
		w.t.Fatalf("the request has no ID: %s", asked)
	}
	w.eventually(func() (string, bool) {
		shown, _ := w.runSluice("cell", "debug", "show", id[1], "--state", w.path("states", "acme"))
		return "the owner sees " + shown, strings.Contains(shown, "deployment/web") &&
			strings.Contains(shown, "to read logs of what the cell runs, and nothing else")
	})
	w.mustRunSluice("cell", "debug", "approve", id[1], "--state", w.path("states", "acme"))
	return id[1]
}

// connect returns ada's command in a debug session of acme.
func (w *world) connect(id string, command ...string) *exec.Cmd {
	c := exec.CommandContext(w.t.Context(), os.Getenv(binaryVariable), //nolint:gosec // ours
		append([]string{"debug", "connect", "acme", id, "--key", w.path("ada"), "--"}, command...)...)
	c.Env = w.env()
	return c
}

// The scope logs in a cluster: what pods of a workload write is read and followed, that of later pods too, once the
// cell has the right, until the owner stops it; and both sides hold the same record.
func TestLogsOfPodsInADebugSession(t *testing.T) {
	w, c := newSupportedCluster(t)
	logs := kubelet.NewLogs(t, c)
	pods := func() []string {
		return strings.Fields(c.Run(t, "", "-n", "shop", "get", "pods", "-l", "app=web", "--field-selector",
			"status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}"))
	}
	before := pods()
	first := before[0]
	logs.Add(first+"/server", "one request")
	if out, err := w.connect(w.askForLogs(), "logs", "web").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "sluice agent manifest --logs") || strings.Contains(string(out), "one request") {
		t.Errorf("without the right: %v: %s", err, out)
	}
	manifest := w.mustRunSluice("agent", "manifest", "--image", "registry.example/sluice:1", "--for", "shop", "--logs")
	c.Run(t, manifest, "apply", "--server-side", "-f", "-")

	id := w.askForLogs()
	file, err := os.Create(w.path("person.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	person := w.connect(id, "logs", "web", "--follow")
	person.Stdout, person.Stderr = file, file
	if err := person.Start(); err != nil {
		t.Fatal(err)
	}
	reads := func(line string) {
		t.Helper()
		w.eventually(func() (string, bool) {
			said := w.processLog("person")
			return fmt.Sprintf("ada lacks %q: %s", line, said), strings.Contains(said, line)
		})
	}
	reads(first + "/server: one request\n")
	logs.Add(first+"/server", "\x1b]0;title\x07 another request")
	reads(first + `/server: \x1b]0;title\x07 another request` + "\n")
	c.Run(t, "", "-n", "shop", "delete", "pod", first, "--wait=false")
	var later string
	w.eventually(func() (string, bool) {
		for _, pod := range pods() {
			if !slices.Contains(before, pod) {
				later = pod
			}
		}
		return "no pod came in the place of " + first, later != ""
	})
	logs.Add(later+"/server", "from a later pod")
	reads(later + "/server: from a later pod\n")

	w.mustRunSluice("cell", "debug", "stop", id, "--state", w.path("states", "acme"))
	if err := person.Wait(); err == nil {
		t.Error("the session ended as if nothing more were to come")
	}
	w.eventually(func() (string, bool) {
		out, _ := w.runSluice("debug", "show", "acme", id)
		return "the vendor sees " + out, strings.Contains(out, "the control plane has it")
	})
	record := w.path("states", "acme", "debug", id, "record.cast")
	if out := w.mustRunSluice("debug", "verify", "acme", id, record); !strings.Contains(out, "as cell acme sealed it") {
		t.Errorf("the owner's record: %s", out)
	}
	w.mustRunSluice("debug", "show", "acme", id, "--record", w.path("vendor.cast"))
	owners, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	vendors, err := os.ReadFile(w.path("vendor.cast"))
	if err != nil {
		t.Fatal(err)
	}
	if string(owners) != string(vendors) || !strings.Contains(string(vendors), "from a later pod") {
		t.Errorf("the owner has %s and the vendor %s", owners, vendors)
	}
	wantDenied(t, c, "sluice-agent", []string{"get", "pods", "--subresource=log", "-n", "kube-system"})
}
