package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/test/cluster"
)

// agentPod runs what the agent's pod would: kwok plays the pod's node, where no container runs. An image with the tag
// bad does not start, there and here.
type agentPod struct {
	w          *world
	cluster    *cluster.Cluster
	kubeconfig string
	token      string // file with what the agent registers with; empty: it dials the world's server without a key
	uid        string // of the pod whose processes run; empty: none do
	processes  []*process
	images     map[string]string // by container
}

// sync starts the processes of a new pod, and ends those of one that is gone.
func (p *agentPod) sync() {
	p.w.t.Helper()
	text := p.cluster.Run(p.w.t, "", "-n", "sluice", "get", "pod", "sluice-agent-0", "--ignore-not-found", "-o", "json")
	var live struct {
		Metadata struct {
			UID               string `json:"uid"`
			DeletionTimestamp string `json:"deletionTimestamp"`
		} `json:"metadata"`
		Spec struct {
			NodeName   string `json:"nodeName"`
			Containers []struct {
				Name  string   `json:"name"`
				Image string   `json:"image"`
				Args  []string `json:"args"`
			} `json:"containers"`
		} `json:"spec"`
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &live); err != nil {
			p.w.t.Fatal(err)
		}
	}
	if live.Metadata.UID == p.uid && live.Metadata.DeletionTimestamp == "" {
		return
	}
	for _, is := range p.processes {
		is.stop()
	}
	p.uid, p.processes, p.images = "", nil, map[string]string{}
	if live.Metadata.UID == "" || live.Metadata.DeletionTimestamp != "" || live.Spec.NodeName == "" {
		return
	}
	p.uid = live.Metadata.UID
	for _, c := range live.Spec.Containers {
		p.images[c.Name] = c.Image
		if strings.HasSuffix(c.Image, ":bad") {
			continue
		}
		args := slices.Clone(c.Args)
		args[slices.Index(args, "/var/lib/sluice/agent")] = p.w.path("states", "eu-1")
		if join := slices.Index(args, "--join"); join >= 0 {
			how := []string{"--cell", "eu-1", "--server", p.w.socket()}
			if p.token != "" {
				how = []string{"--join", "@" + p.token}
			}
			args = slices.Replace(args, join, join+2, append(how, "--healthy-for", "1s", "--health-every", "500ms",
				"--report-every", "500ms")...)
		}
		is := p.w.process("eu-1-"+c.Name, append(args, "--kubeconfig", p.kubeconfig, "--update-limit", "30s")...)
		is.environment = []string{"POD_NAME=sluice-agent-0", "POD_NAMESPACE=sluice", "POD_UID=" + p.uid}
		p.processes = append(p.processes, is.start())
	}
}

// providePodState makes the volume for the agent's state: nothing provisions volumes here.
func providePodState(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	c.Run(t, `{apiVersion: v1, kind: PersistentVolume, metadata: {name: state}, spec: {capacity: {storage: 1Gi},
  accessModes: [ReadWriteOnce], hostPath: {path: /nowhere}}}`, "create", "-f", "-")
}

// await waits until the cell has a release, and the pod these images.
func (p *agentPod) await(release, agent, guard string) {
	p.w.t.Helper()
	p.w.eventually(func() (string, bool) {
		p.sync()
		c := p.w.cellStatus("eu-1")
		const image = "registry.example/sluice:"
		isSo := c.Release == release && c.State == "healthy" && p.images["agent"] == image+agent &&
			p.images["guard"] == image+guard
		return fmt.Sprintf("eu-1 is %s on %s: %s; the pod has %v, want %s, %s, %s", c.State, c.Release, c.Message,
			p.images, release, agent, guard), isSo
	})
}

// A release replaces the agent in a cluster, with the rights that the printed manifest grants; its guard follows. Of a
// release with an agent that does not start, the guard puts the one before back, though the StatefulSet waits for a pod
// that never becomes ready; the release failed, and nothing of it was applied.
func TestAgentUpdatesItself(t *testing.T) {
	w := newWorld(t, nil)
	clear(w.agents)
	c := cluster.New(t, 1)
	providePodState(t, c)
	installAgent(t, c, "--self-update")
	pod := &agentPod{w: w, cluster: c, kubeconfig: w.kubeconfigOf(c, "sluice-agent")}
	w.startAll()
	cut := func(version, agent string) {
		files := clusterRelease(version, "web:"+version)
		files["releases/"+version+"/release.yaml"] += fmt.Sprintf("components: [{name: sluice-agent, image: %q}]\n",
			"vendor.example/sluice:"+agent)
		w.pushFiles("cut "+version, files)
	}
	w.pushFiles("cut 1.0.0", clusterRelease("1.0.0", "web:1.0.0"))
	pod.await("1.0.0", "1", "1")
	cut("1.1.0", "2")
	pod.await("1.1.0", "2", "1")
	pod.await("1.1.0", "2", "2") // the guard follows
	cut("1.2.0", "bad")
	w.eventually(func() (string, bool) {
		pod.sync()
		quarantine := w.readCommitted("quarantine/1.2.0.yaml")
		return fmt.Sprintf("1.2.0 is not quarantined; the pod has %v", pod.images),
			strings.Contains(quarantine, "did not report within 30s: the one before, registry.example/sluice:2, was put back")
	})
	pod.await("1.1.0", "2", "2")
	generation := c.Run(t, "", "-n", "shop", "get", "deployment", "web", "-o", "jsonpath={.metadata.generation}")
	if generation != "2" {
		t.Errorf("the Deployment is in generation %s, want 2: of 1.2.0 nothing was applied", generation)
	}
	wantDenied(t, c, "sluice-agent", []string{"delete", "statefulsets.apps/sluice-agent", "-n", "sluice"},
		[]string{"patch", "statefulsets.apps/other", "-n", "sluice"}, []string{"delete", "pods/other", "-n", "sluice"},
		[]string{"create", "pods", "-n", "sluice"})
}
