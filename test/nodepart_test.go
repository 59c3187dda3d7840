package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/cluster"
)

// installAgent puts into a cluster what sluice agent manifest prints for releases that go into namespace shop.
func installAgent(t *testing.T, c *cluster.Cluster, more ...string) {
	t.Helper()
	c.Run(t, "", "create", "namespace", "shop")
	args := append([]string{"agent", "manifest", "--image", "registry.example/sluice:1", "--for", "shop"}, more...)
	out, err := exec.CommandContext(t.Context(), os.Getenv(binaryVariable), args...).Output() //nolint:gosec // ours
	if err != nil {
		t.Fatal(err)
	}
	c.Run(t, string(out), "apply", "--server-side", "-f", "-")
}

// namespaceOf returns the namespace of a service account that the printed manifest makes.
func namespaceOf(account string) string {
	if account == "sluice-node" {
		return "sluice-node"
	}
	return "sluice"
}

// kubeconfigOf returns a file by which a process acts as a service account that the printed manifest makes.
func (w *world) kubeconfigOf(c *cluster.Cluster, account string) string {
	w.t.Helper()
	token := c.Run(w.t, "", "-n", namespaceOf(account), "create", "token", account, "--duration", "1h")
	authority := c.Run(w.t, "", "config", "view", "--flatten", "--minify", "-o",
		"jsonpath={.clusters[0].cluster.certificate-authority-data}")
	file := w.path(account + "-kubeconfig")
	err := os.WriteFile(file, fmt.Appendf(nil, "apiVersion: v1\nkind: Config\ncurrent-context: x\n"+
		"clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %q}}]\n"+
		"users: [{name: u, user: {token: %q}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n",
		c.Server, authority, token), 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	return file
}

// wantDenied checks that a service account that the printed manifest makes may do none of these.
func wantDenied(t *testing.T, c *cluster.Cluster, account string, all ...[]string) {
	t.Helper()
	for _, args := range all {
		out, _ := c.Kubectl(t.Context(), "", append([]string{"auth", "can-i", "--as",
			"system:serviceaccount:" + namespaceOf(account) + ":" + account}, args...)...)
		if !strings.HasSuffix(strings.TrimSpace(out), "no") { // after a warning, perhaps
			t.Errorf("%s may %v: %s", account, args, out)
		}
	}
}

// R43 on the nodes of a cluster, with the rights that the printed manifest gives: a kill is in force on a node within
// two seconds. While the API server is away, what the node knew last holds, also in a node part that was started anew,
// and what was killed in the meantime is off once it is back.
func TestR43OnTheNodesOfACluster(t *testing.T) {
	c := cluster.New(t, 0)
	l := newFlagWorld(t)
	installAgent(t, c, "--node")
	clear(l.agents)
	l.agents["eu-1"] = l.process("eu-1", "agent", "--cell", "eu-1", "--server", l.socket(), "--target", "kubernetes",
		"--kubeconfig", l.kubeconfigOf(c, "sluice-agent"), "--namespace", "shop", "--state", l.path("states", "eu-1"),
		"--nodes", "sluice-node/sluice-node", "--flags-listen", "unix://"+l.path("eu-1.f"), "--report-every", "500ms")
	node := l.process("node", "node", "--configmap", "sluice-node/sluice-node", "--state", l.path("states", "node"),
		"--kubeconfig", l.kubeconfigOf(c, "sluice-node"), "--listen", "unix://"+l.path("node.f"),
		"--listen", "127.0.0.1:0")
	l.startAll()
	node.start()
	l.runAs("ada", "flag", "set", newEditor, "--new", "--default", "on", "--off", "off")
	l.awaitValue("node", true)
	kill := func() {
		t.Helper()
		response, err := l.request(http.MethodPost, "/v1/flags/"+newEditor+"/kill", []byte(`{"reason":"loses text"}`),
			http.Header{"Content-Type": {"application/json"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode/100 != 2 {
			t.Fatalf("the kill is answered %s", response.Status)
		}
	}
	begun := time.Now()
	kill()
	l.awaitValue("node", false)
	took := time.Since(begun)
	t.Logf("off on the node %s after it was asked for", took)
	if took > 2*time.Second {
		t.Errorf("the kill took %s", took)
	}
	l.eventually(func() (string, bool) { return "the kill is not committed", l.newestKill().Committed })
	l.runAs("ada", "flag", "unkill", newEditor, "--reason", "mended")
	l.awaitValue("node", true)

	c.StopAPIServer()
	kill()
	l.awaitValue("eu-1", false)
	node.kill()
	node.start()
	l.awaitValue("node", true)
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.awaitValue("node", false)

	wantDenied(t, c, "sluice-node", []string{"list", "configmaps", "-n", "sluice-node"},
		[]string{"get", "secrets", "-n", "sluice-node"}, []string{"watch", "configmaps", "-n", "shop"},
		[]string{"patch", "configmaps/sluice-node", "-n", "sluice-node"},
		[]string{"patch", "configmaps/sluice-node-maintenance", "-n", "sluice-node"},
		[]string{"patch", "leases", "-n", "sluice"}, []string{"patch", "leases", "-n", "shop"},
		[]string{"delete", "leases", "-n", "sluice-node"})
	wantDenied(t, c, "sluice-agent", []string{"patch", "configmaps/other", "-n", "sluice-node"},
		[]string{"get", "secrets", "-n", "sluice"}, []string{"patch", "leases", "-n", "sluice-node"})
}
