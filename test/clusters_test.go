package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/test/cluster"
)

// clusterRelease returns the files of a release of one Deployment, with an image.
func clusterRelease(version, image string) map[string]string {
	dir := "releases/" + version + "/"
	return map[string]string{
		dir + "release.yaml":       "apiVersion: sluice/v1\nkind: Release\nversion: " + version + "\n",
		dir + "kustomization.yaml": "resources: [web.yaml]\n",
		dir + "web.yaml": fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: server, image: %q}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: version}
data: {version: %q}
`, image, version),
	}
}

// Faults 32 and 34 on five clusters, each with an API server of its own: a release goes by staging into dedicated. A
// bad one is stopped in staging by what its pods do, the cell goes back by itself, and the replicas of before serve all
// the while.
func TestFault32OnFiveClusters(t *testing.T) {
	names := []string{"eu-1", "acme", "bolt", "core", "dyne"}
	w := newWorld(t, func(files map[string]string) {
		for _, name := range names[1:] {
			files["cells/"+name+"/cell.yaml"] = "apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n"
		}
	})
	clusters, err := cluster.StartMany(t.Context(), len(names), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.CloseAll(clusters) })
	for i, name := range names {
		w.agents[name] = w.process(name, "agent", "--cell", name, "--server", w.socket(), "--target", "kubernetes",
			"--kubeconfig", clusters[i].Kubeconfig, "--state", w.path("states", name), "--health-timeout", "20s",
			"--healthy-for", "1s", "--health-every", "500ms", "--report-every", "500ms")
	}
	w.startAll()
	await := func(cell, version string) {
		w.eventually(func() (string, bool) {
			c := w.cellStatus(cell)
			return fmt.Sprintf("%s is %s on %s, want %s: %s", cell, c.State, c.Release, version, c.Message),
				c.Release == version && c.State == "healthy"
		})
	}
	w.pushFiles("cut 1.0.0", clusterRelease("1.0.0", "web:1"))
	for _, name := range names {
		await(name, "1.0.0")
	}
	var watches []replicaWatch
	for i, c := range clusters {
		watches = append(watches, watchReplicas(t, names[i], c))
	}
	w.pushFiles("cut 1.1.0", clusterRelease("1.1.0", "web:bad"))
	w.eventually(func() (string, bool) {
		quarantine := w.readCommitted("quarantine/1.1.0.yaml")
		return "1.1.0 is not quarantined", strings.Contains(quarantine, "CrashLoopBackOff")
	})
	await("eu-1", "1.0.0")
	for i, c := range clusters {
		out := c.Run(t, "", "get", "deployment", "web", "-o",
			"jsonpath={.status.availableReplicas} {.spec.template.spec.containers[0].image}")
		if out != "2 web:1" {
			t.Errorf("%s has %s, want the 2 replicas of before", names[i], out)
		}
	}
	// Drift is noticed by itself, long before the interval of heals ends.
	clusters[1].Run(t, "", "delete", "configmap", "version")
	w.eventually(func() (string, bool) {
		out, err := clusters[1].Kubectl(t.Context(), "", "get", "configmap", "version", "-o",
			"jsonpath={.data.version}")
		return "the ConfigMap is not healed: " + out, err == nil && out == "1.0.0"
	})
	w.pushFiles("cut 1.2.0", clusterRelease("1.2.0", "web:2"))
	for _, name := range names {
		await(name, "1.2.0")
	}
	for _, r := range watches {
		r.wantServing(w)
	}
}

// replicaWatch follows how many replicas of a cluster's Deployment serve.
type replicaWatch struct {
	cell    string
	cluster *cluster.Cluster
	file    string // a line for each change: replicas that serve, and the Deployment's generation
}

// watchReplicas follows a cluster's Deployment from now on.
func watchReplicas(t *testing.T, cell string, c *cluster.Cluster) replicaWatch {
	t.Helper()
	r := replicaWatch{cell, c, filepath.Join(t.TempDir(), "replicas")}
	file, err := os.Create(r.file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	kubectl := exec.CommandContext(ctx, filepath.Join(c.Programs(), "kubectl"), "--kubeconfig", c.Kubeconfig, "get",
		"deployment", "web", "--watch", "-o", `jsonpath={.status.availableReplicas} {.metadata.generation}{"\n"}`)
	kubectl.Stdout = file
	if err := kubectl.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = kubectl.Wait() // it was ended
		_ = file.Close()
	})
	return r
}

// wantServing demands that both replicas served at each change, until the Deployment became what it is now.
func (r replicaWatch) wantServing(w *world) {
	w.t.Helper()
	last := r.cluster.Run(w.t, "", "get", "deployment", "web", "-o", "jsonpath={.metadata.generation}")
	var seen string
	w.eventually(func() (string, bool) {
		text, err := os.ReadFile(r.file)
		seen = string(text)
		return fmt.Sprintf("%s: the watch saw %q, and not generation %s: %v", r.cell, seen, last, err),
			strings.Contains(seen, " "+last+"\n")
	})
	if last == "1" {
		w.t.Errorf("%s: the Deployment was never another", r.cell)
	}
	for line := range strings.Lines(seen) {
		available, generation, whole := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if n, err := strconv.Atoi(available); whole && (err != nil || n < 2) {
			w.t.Errorf("%s: %q replicas serve in generation %s", r.cell, available, generation)
		}
	}
}

// The printed manifest is all that an agent needs: what it puts into a cluster has the rights to run a release, and no
// more.
func TestAgentManifest(t *testing.T) {
	var writeKey func(file string) error
	w := newWorld(t, func(files map[string]string) {
		delete(files, "cells/eu-1/cell.yaml")
		var err error
		if writeKey, err = addPerson(files); err != nil {
			t.Fatal(err)
		}
	})
	c := cluster.New(t, 1)
	installAgent(t, c, "--shells")
	w.server.args = append(w.server.args, "--cells", freePort(t))
	w.server.start()
	w.eventually(func() (string, bool) {
		return "the control plane is not ready", w.getJSON("/readyz", new([]byte)) == nil
	})
	kubeconfig := w.kubeconfigOf(c, "sluice-agent")
	w.agents["eu-1"] = w.process("eu-1", "agent", "--join", "@"+w.addCell("eu-1", "staging"), "--target", "kubernetes",
		"--kubeconfig", kubeconfig, "--namespace", "shop", "--state", w.path("states", "eu-1"),
		"--health-timeout", "1m",
		"--healthy-for", "1s", "--health-every", "500ms", "--report-every", "500ms")
	w.agents["eu-1"].start()
	w.pushFiles("cut 1.0.0", clusterRelease("1.0.0", "web:1"))
	w.eventually(func() (string, bool) {
		s := w.cellStatus("eu-1")
		return fmt.Sprintf("eu-1 is %s on %s: %s", s.State, s.Release, s.Message), s.Release == "1.0.0" && s.State == "healthy"
	})
	replicas := c.Run(t, "", "-n", "shop", "get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas}")
	if replicas != "2" {
		t.Errorf("%s replicas are available", replicas)
	}
	// The owner sees what the next release would change, with the agent's own rights, and approves nothing by that.
	state := w.path("states", "eu-1")
	w.mustRunSluice("cell", "approval", "require", "--state", state)
	next := clusterRelease("1.1.0", "web:2")
	next["releases/1.1.0/web.yaml"] += `---
apiVersion: v1
kind: Secret
metadata: {name: access}
stringData: {password: opensesame}
`
	w.pushFiles("cut 1.1.0", next)
	w.eventually(func() (string, bool) {
		out, err := w.runSluice("cell", "diff", "--state", state, "--kubeconfig", kubeconfig)
		shown := strings.Contains(out, "changed  Deployment shop/web\n") && strings.Contains(out, "image: web:2\n") &&
			strings.Contains(out, "added    Secret shop/access\n") && !strings.Contains(out, "opensesame")
		return fmt.Sprintf("cell diff: %v\n%s", err, out), err == nil && shown
	})
	if s := w.cellStatus("eu-1"); s.Release != "1.0.0" {
		t.Errorf("eu-1 runs %s", s.Release)
	}
	if err := writeKey(w.path("key")); err != nil {
		t.Fatal(err)
	}
	w.debugPod(c, "eu-1", w.path("key"), kubeconfig)
	wantDenied(t, c, "sluice-agent", []string{"create", "roles", "-n", "shop"},
		[]string{"get", "secrets", "-n", "kube-system"}, []string{"create", "namespaces"},
		[]string{"impersonate", "users"}, []string{"create", "pods", "--subresource=exec", "-n", "kube-system"})
}
