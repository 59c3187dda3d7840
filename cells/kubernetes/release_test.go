package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// back returns a release as a rollback applies it.
func back(r cells.Rendered) cells.Rendered {
	r.Back = true
	return r
}

// Fault 32: a poison release is told with what its pods wait for, what ran goes on serving, and the rollback is whole.
func TestFault32BadImage(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	good := release("1.0.0", documents(deployment("web", "web:1"), configMap("a", "1")))
	bad := release("1.1.0", documents(deployment("web", "web:bad"), configMap("b", "1")))
	w.install(t, good)
	must(t, w.target.Apply(t.Context(), bad))
	u := w.awaitUnhealthy(t, "CrashLoopBackOff")
	if len(u.Objects) != 1 || u.Objects[0].Object != "Deployment "+w.namespace+"/web" {
		t.Errorf("it names %v", u.Objects)
	}
	if ready := w.kubectl(t, "get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas}"); ready != "2" {
		t.Errorf("%s replicas are available while the bad release waits, want the 2 of before", ready)
	}
	w.install(t, back(good))
	w.wantThere(t, true, "configmap", "a")
	w.wantThere(t, false, "configmap", "b")
}

// A rollback keeps what may hold data, and says so; everything else of the failed release goes.
func TestRollbackKeepsWhatIsStateful(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	group := "k" + w.namespace[:8] + ".example.com"
	claim := "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  accessModes: [ReadWriteOnce]\n" +
		"  storageClassName: none\n  resources: {requests: {storage: 1Gi}}\n"
	stateful := "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n" +
		"  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n" +
		"    spec: {containers: [{name: db, image: 'db:1'}]}\n"
	good := release("1.0.0", configMap("a", "1"))
	failed := release("1.1.0", documents(configMap("a", "1"), configMap("b", "1"), claim, stateful,
		definition(group, "Widget", "v1"), "apiVersion: "+group+"/v1\nkind: Widget\nmetadata: {name: w}\n"))
	w.install(t, good)
	must(t, w.target.Apply(t.Context(), failed))
	w.install(t, back(good))
	w.wantThere(t, true, "persistentvolumeclaim", "data")
	w.wantThere(t, true, "statefulset", "db")
	w.wantThere(t, true, "widgets."+group, "w")
	w.wantThere(t, false, "configmap", "b")
	notes := strings.Join(w.target.Notes(), "\n")
	if !strings.Contains(notes, "PersistentVolumeClaim "+w.namespace+"/data") {
		t.Errorf("the notes are %s", notes)
	}
	w.open(t) // and once more, after a restart
	w.settle(t, good)
	w.wantThere(t, true, "persistentvolumeclaim", "data")
	// A release that has the claim takes it, and the next one that drops it, healthy, removes it.
	w.install(t, release("1.2.0", documents(configMap("a", "1"), stateful)))
	w.install(t, release("1.3.0", configMap("a", "1")))
	w.wantThere(t, false, "statefulset", "db")
	w.wantThere(t, true, "persistentvolumeclaim", "data")
}

// Removal is by the inventory and the UID alone.
func TestOnlyItsOwnIsRemoved(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.kubectl(t, "create", "configmap", "foreign")
	w.kubectl(t, "label", "configmap", "foreign", "sluice/cell="+w.namespace)
	w.kubectl(t, "create", "configmap", "existed", "--from-literal=other=1")
	names := []string{"a", "replaced", "optout", "existed", "dropped"}
	var all []string
	for _, n := range names {
		all = append(all, configMap(n, "1"))
	}
	space := w.namespace + "-x"
	all = append(all, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+space+"}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: inside, namespace: "+space+"}\n")
	w.install(t, release("1.0.0", documents(all...)))
	w.kubectl(t, "delete", "configmap", "replaced")
	w.kubectl(t, "create", "configmap", "replaced", "--from-literal=by=somebody")
	w.kubectl(t, "annotate", "configmap", "optout", "sluice/prune=disabled")
	next := release("1.1.0", configMap("a", "1"))
	next.Kubernetes.RemoveMost = true
	w.install(t, next)
	w.wantThere(t, true, "configmap", "a", "foreign", "replaced", "optout", "existed")
	w.wantThere(t, false, "configmap", "dropped")
	if out := w.Run(t, "", "get", "namespace", space, "-o", "jsonpath={.status.phase}"); out != "Active" {
		t.Errorf("the namespace that the release dropped is %q", out)
	}
	if out := w.Run(t, "", "-n", space, "get", "configmap", "inside", "--ignore-not-found"); out != "" {
		t.Errorf("what was in it is left: %s", out)
	}
	for _, want := range []string{"Namespace " + space, "prune: [Namespace]", "optout", "existed"} {
		if notes := strings.Join(w.target.Notes(), "\n"); !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q: %s", want, notes)
		}
	}
	last := release("1.2.0", configMap("a", "2"))
	last.Kubernetes.Prune = []string{"Namespace"}
	w.install(t, last)
	w.wantThere(t, true, "configmap", "optout", "existed")
	phase := w.Run(t, "", "get", "namespace", space, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
	if phase == "Active" {
		t.Error("the namespace is left, though the release says otherwise")
	}
}

// A rendering that is empty, or lacks most of what is there, changes nothing.
func TestCollapsingRenderingIsRefused(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	var all []string
	for i := range 9 {
		all = append(all, configMap(fmt.Sprint("c", i), "1"))
	}
	good := release("1.0.0", documents(all...))
	w.install(t, good)
	want := w.values(t)
	for _, documents := range []string{"", configMap("c1", "2"), configMap("x", "2")} {
		r := release("1.1.0", documents)
		err := w.target.Apply(t.Context(), r)
		if err == nil || cells.CauseOf(err) != cells.CauseRelease {
			t.Errorf("%q: %v, %s", documents, err, cells.CauseOf(err))
		}
		r.Proven = true
		if _, err := w.target.Heal(t.Context(), r); err == nil {
			t.Errorf("%q: heal finds nothing wrong", documents)
		}
		if got := w.values(t); !maps.Equal(got, want) {
			t.Errorf("%q: in place is %v", documents, got)
		}
	}
	meant := release("1.2.0", configMap("c1", "2"))
	meant.Kubernetes.RemoveMost = true
	w.install(t, meant)
	if got := w.values(t); len(got) != 1 {
		t.Errorf("in place is %v", got)
	}
	w.install(t, back(good)) // a rollback is never refused
	w.install(t, back(meant))
}

// Fields of others are reported one by one, and taken over only if the release says so.
func TestFieldsOfOthers(t *testing.T) {
	for program, manager := range map[string]string{"kubectl": "kubectl-client-side-apply", "helm": "helm"} {
		t.Run(program, func(t *testing.T) {
			w := newWorld(t, shared.Get(t))
			theirs := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: theirs, extra: old}\n"
			w.Run(t, theirs, "-n", w.namespace, "apply", "-f", "-", "--field-manager", manager)
			r := release("1.0.0", configMap("a", "ours"))
			err := w.target.Apply(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), ".data.value belongs to "+manager) {
				t.Fatalf("apply says %v", err)
			}
			if cells.CauseOf(err) != cells.CauseUnknown {
				t.Errorf("at fault is %s", cells.CauseOf(err))
			}
			if got := w.values(t)["a"]; got != "theirs" {
				t.Errorf("it has %q", got)
			}
			r = release("1.1.0", configMap("a", "ours"))
			r.Kubernetes.TakeOver = []string{program}
			w.install(t, r)
			if got := w.kubectl(t, "get", "configmap", "a", "-o", "jsonpath={.data}"); got != `{"value":"ours"}` {
				t.Errorf("it has %s, want what the program had, and the release not, to be gone", got)
			}
			next := release("1.2.0", configMap("b", "1"))
			w.install(t, next)
			w.wantThere(t, false, "configmap", "a")
		})
	}
}

// What people change by hand is drift: the next release is not refused because of it.
func TestEditIsDrift(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	r := release("1.0.0", deployment("web", "web:1"))
	w.install(t, r)
	w.kubectl(t, "set", "image", "deployment/web", "server=web:2")
	image := func(want string) func() error {
		return func() error {
			got := w.kubectl(t, "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
			if got != want {
				return fmt.Errorf("the image is %s", got)
			}
			return nil
		}
	}
	w.healUntil(t, r, "the image is healed", image("web:1"))
	w.kubectl(t, "set", "image", "deployment/web", "server=web:3")
	must(t, w.target.Apply(t.Context(), release("1.1.0", deployment("web", "web:4"))))
	must(t, image("web:4")())
	// What nobody owns, or the agent does not, is no drift.
	w.awaitHealthy(t)
	w.kubectl(t, "annotate", "deployment", "web", "note=mine")
	w.settle(t, release("1.1.0", deployment("web", "web:4")))
}

// The owner of a cell suspends the heal of an object, and is reminded of it.
func TestHealSuspended(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	r := release("1.0.0", configMap("a", "1"))
	w.install(t, r)
	w.kubectl(t, "annotate", "configmap", "a", "sluice/heal=suspended")
	w.kubectl(t, "patch", "configmap", "a", "-p", `{"data":{"value":"debug"}}`)
	w.healUntil(t, r, "a note", func() error {
		if notes := strings.Join(w.target.Notes(), ""); !strings.Contains(notes, "ConfigMap "+w.namespace+"/a") {
			return errors.New(notes)
		}
		return nil
	})
	if got := w.values(t)["a"]; got != "debug" {
		t.Errorf("it has %q", got)
	}
	w.kubectl(t, "annotate", "configmap", "a", "sluice/heal-")
	w.healUntil(t, r, "healed", func() error {
		if got := w.values(t)["a"]; got != "1" {
			return errors.New(got)
		}
		return nil
	})
}

// Somebody who changes or deletes an object each time is not fought for ever, not even across restarts.
func TestSomebodyResists(t *testing.T) {
	for _, args := range [][]string{
		{"patch", "configmap", "a", "-p", `{"data":{"value":"theirs"}}`},
		{"delete", "configmap", "a", "--ignore-not-found"},
	} {
		t.Run(args[0], func(t *testing.T) {
			w := newWorld(t, shared.Get(t))
			r := release("1.0.0", documents(configMap("a", "1"), configMap("b", "1")))
			w.install(t, r)
			healed := 0
			for i := range 12 {
				w.kubectl(t, args...)
				w.open(t)
				n, err := w.target.Heal(t.Context(), r)
				var recurring *cells.RecurringDriftError
				if isRecurring := errors.As(err, &recurring); i > 8 && !isRecurring || err != nil && !isRecurring {
					t.Errorf("heal %d says %v", i, err)
				}
				if healed += n; i > 8 && n > 0 {
					t.Errorf("heal %d still mends", i)
				}
			}
			if healed == 0 || healed > 6 {
				t.Errorf("%d heals", healed)
			}
			// The next release is applied in any case.
			must(t, w.target.Apply(t.Context(), release("1.1.0", documents(configMap("a", "2"), configMap("b", "1")))))
			if got := w.values(t)["a"]; got != "2" {
				t.Errorf("it has %q", got)
			}
		})
	}
}

// What is never good to a cluster says so by object, and nothing is deleted to be created anew.
func TestRefusedByTheAPIServer(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	stateful := "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: %s\n" +
		"  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n" +
		"    spec: {containers: [{name: db, image: 'db:1'}]}\n"
	good := release("1.0.0", documents(fmt.Sprintf(stateful, "db"), configMap("a", "1")))
	w.install(t, good)
	uid := w.kubectl(t, "get", "statefulset", "db", "-o", "jsonpath={.metadata.uid}")
	for name, c := range map[string]struct {
		documents string
		says      string
	}{
		"a field that can't change": {fmt.Sprintf(stateful, "other"), "StatefulSet " + w.namespace + "/db"},
		"a field that is none":      {configMap("a", "1") + "unknown: 1\n", "ConfigMap " + w.namespace + "/a"},
		"a value of another type":   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: [1]\n", "/a"},
		"no name":                   {"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n", "metadata.name"},
		"twice":                     {documents(configMap("a", "1"), configMap("a", "2")), "both"},
		"too large":                 {configMap("a", strings.Repeat("x", 1500<<10)), "bytes"},
		"larger than a ConfigMap":   {configMap("a", strings.Repeat("x", 1100<<10)), "/a"},
		"a hook that is no Job": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {sluice/hook: before}}\n",
			"Job"},
		"a hook of Helm": {strings.Replace(configMap("a", "1"), "name: a",
			"name: a, annotations: {helm.sh/hook: test}", 1), "/a (helm.sh/hook)"},
		"a duplicate key": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nmetadata: {name: b}\n", "metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.target.Apply(t.Context(), release("1.1.0", c.documents))
			if err == nil || !strings.Contains(err.Error(), c.says) || cells.CauseOf(err) != cells.CauseRelease {
				t.Errorf("apply says %.300v, %s", err, cells.CauseOf(err))
			}
			var unavailable *cells.UnavailableError
			if errors.As(err, &unavailable) {
				t.Error("it would be tried again for ever")
			}
		})
	}
	if now := w.kubectl(t, "get", "statefulset", "db", "-o", "jsonpath={.metadata.uid}"); now != uid {
		t.Error("the StatefulSet was deleted and created anew")
	}
	w.install(t, back(good))
}

// What the cluster lacks, or does not let the agent do, is said before anything is written, with who can help.
func TestPreflight(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.kubectl(t, "create", "role", "agent", "--verb=*", "--resource=configmaps,leases")
	w.kubectl(t, "create", "rolebinding", "agent", "--role=agent", "--user=agent-"+w.namespace)
	w.options.Config.Impersonate = rest.ImpersonationConfig{UserName: "agent-" + w.namespace}
	w.open(t)
	for name, c := range map[string]struct{ document, says string }{
		"a right": {deployment("web", "web:1"), "create deployments.apps in namespace " + w.namespace},
		"a right in the cluster": {"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n" +
			"metadata: {name: x-" + w.namespace + "}\n", "clusterroles.rbac.authorization.k8s.io in the cluster"},
		"a kind":    {"apiVersion: nobody.example.com/v1\nkind: Thing\nmetadata: {name: a}\n", "does not serve nobody.example.com"},
		"a version": {"apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: a}\n", "but version v1"},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.target.Apply(t.Context(), release("1.0.0", documents(configMap("a", "1"), c.document)))
			var unavailable *cells.UnavailableError
			if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("apply says %v", err)
			}
			w.wantThere(t, false, "configmap", "a")
		})
	}
	w.install(t, release("1.0.0", configMap("a", "1")))
}

func TestQuota(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.kubectl(t, "create", "configmap", "existed")
	w.kubectl(t, "create", "quota", "q", "--hard=count/secrets=1,count/deployments.apps=1,count/configmaps=3")
	w.install(t, release("1.0.0", configMap("a", "1")))
	eventually(t, "the quota counts kube-root-ca.crt and both", func() error {
		used := w.kubectl(t, "get", "quota", "q", "-o", "jsonpath={.status.used}")
		if !strings.Contains(used, `s":"3"`) {
			return errors.New(used)
		}
		return nil
	})
	w.install(t, release("1.0.1", documents(configMap("a", "1"), configMap("existed", "1")))) // adds none
	r := release("1.1.0", documents(configMap("a", "2"), deployment("a", "web:1"), deployment("b", "web:1")))
	err := w.target.Apply(t.Context(), r)
	var unavailable *cells.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "count/deployments.apps of ResourceQuota") {
		t.Errorf("apply says %v", err)
	}
	if got := w.values(t)["a"]; got != "1" {
		t.Errorf("it has %q", got)
	}
	w.kubectl(t, "delete", "quota", "q")
	w.install(t, r)
}

// Definitions come before their resources, in one release; health is what the kind or the release says.
func TestCustomResources(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	group := "c" + w.namespace[:8] + ".example.com"
	status := strings.Replace(definition(group, "Widget", "v1"), "    storage: true\n",
		"    storage: true\n    subresources: {status: {}}\n", 1)
	widget := "apiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n"
	r := release("1.0.0", documents(widget, status))
	must(t, w.target.Apply(t.Context(), r))
	w.awaitUnhealthy(t, "no status yet")
	w.kubectl(t, "patch", "widgets."+group, "w", "--subresource=status", "--type=merge", "-p",
		`{"status":{"phase":"Starting"}}`)
	w.awaitHealthy(t)
	ruled := release("1.1.0", documents(widget, status))
	ruled.Kubernetes.Health = []releases.HealthRule{{Group: group, Kind: "Widget", Ready: "object.status.phase == 'Up'",
		Failed: "object.status.phase == 'Broken'"}}
	must(t, w.target.Apply(t.Context(), ruled))
	w.awaitUnhealthy(t, "object.status.phase == 'Up'")
	w.kubectl(t, "patch", "widgets."+group, "w", "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Broken"}}`)
	w.awaitUnhealthy(t, "says that it failed")
	w.kubectl(t, "patch", "widgets."+group, "w", "--subresource=status", "--type=merge", "-p", `{"status":{"phase":"Up"}}`)
	w.awaitHealthy(t)
}

// Where kstatus is wrong: a Job that runs, and a StatefulSet that is updated by hand, do not work yet.
func TestHealthByKind(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	unschedulable := "nodeSelector: {nowhere: 'yes'}, containers: [{name: c, image: 'c:1'}]"
	job := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  template:\n    spec: {restartPolicy: Never, " +
		unschedulable + "}\n"
	stateful := "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n" +
		"  updateStrategy: {type: OnDelete}\n  selector: {matchLabels: {app: db}}\n  template:\n" +
		"    metadata: {labels: {app: db}}\n    spec: {" + unschedulable + "}\n"
	must(t, w.target.Apply(t.Context(), release("1.0.0", documents(job, stateful))))
	w.awaitUnhealthy(t, "0 of 1 pods are ready")
	w.awaitUnhealthy(t, "it is not done: 1 active pod")
	w.awaitUnhealthy(t, "Unschedulable")
}

// An object may become one of another kind: the old one goes once the new one works.
func TestKindIsSwapped(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.install(t, release("1.0.0", deployment("web", "web:1")))
	set := strings.NewReplacer("kind: Deployment", "kind: StatefulSet", "  progressDeadlineSeconds: 600\n", "",
		"replicas: 2", "replicas: 2\n  serviceName: web").Replace(deployment("web", "web:1"))
	must(t, w.target.Apply(t.Context(), release("1.1.0", set)))
	w.wantThere(t, true, "deployment", "web")
	w.awaitHealthy(t)
	w.settle(t, release("1.1.0", set))
	w.wantThere(t, false, "deployment", "web")
	w.install(t, release("1.2.0", deployment("web", "web:1")))
	w.wantThere(t, false, "statefulset", "web")
}

// secondWave puts the Deployment late into wave 1.
func secondWave(late string) string {
	return strings.Replace(late, "{name: late}", "{name: late, annotations: {sluice/wave: '1'}}", 1)
}

// Waves wait for each other; hooks run once per release, and never again after a rollback.
func TestWavesAndHooks(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	hook := func(name, phase, more string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: " + name + ", annotations: {sluice/hook: " + phase + "}}\n" +
			"spec:\n  backoffLimit: 0\n" + more +
			"  template:\n    spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}\n"
	}
	late := secondWave(deployment("late", "web:1"))
	good := release("1.0.0", documents(hook("migrate", "before", ""), deployment("web", "web:1"), late,
		hook("announce", "after", ""), configMap("a", "1")))
	jobs := func() []string {
		return strings.Fields(w.kubectl(t, "get", "jobs", "-o", "jsonpath={.items[*].metadata.name}"))
	}
	w.install(t, good)
	if got := jobs(); len(got) != 2 || !strings.HasPrefix(got[0], "announce-") ||
		!strings.HasPrefix(got[1], "migrate-") {
		t.Errorf("jobs: %v", got)
	}
	created := func(kind, name string) string {
		return w.kubectl(t, "get", kind, name, "-o", "jsonpath={.metadata.creationTimestamp}{.metadata.uid}")[:20]
	}
	if created("deployment", "late") < created("deployment", "web") {
		t.Error("wave 1 came first")
	}
	w.kubectl(t, "delete", "jobs", "--all")
	must(t, w.target.Apply(t.Context(), good))
	if got := jobs(); len(got) != 0 {
		t.Errorf("hooks ran again: %v", got)
	}
	w.settle(t, good)
	stuck := strings.Replace(hook("migrate", "before", "  activeDeadlineSeconds: 1\n"), "restartPolicy",
		"nodeSelector: {nowhere: 'yes'}, restartPolicy", 1)
	bad := release("1.1.0", documents(stuck, deployment("web", "web:2")))
	err := w.target.Apply(t.Context(), bad)
	if err == nil || !strings.Contains(err.Error(), "hook Job") || cells.CauseOf(err) != cells.CauseUnknown {
		t.Errorf("apply says %v", err)
	}
	if got := w.kubectl(t, "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"); got != "web:1" {
		t.Errorf("the workload was changed before its migration: %s", got)
	}
	w.install(t, back(good))
	if got := jobs(); len(got) != 0 {
		t.Errorf("after the rollback there are %v", got)
	}
	slow := release("1.2.0", documents(deployment("web", "web:bad"), late))
	w.options.WaitTimeout = 3 * time.Second
	w.open(t)
	err = w.target.Apply(t.Context(), slow)
	if err == nil || !strings.Contains(err.Error(), "wave 0 is not healthy within 3s") {
		t.Errorf("apply says %v", err)
	}
}

// A hook that is suspended did nothing: the release waits for it, again and again, and does not fail. The Job is gone
// in between, though its own deadline is later, and does not run once somebody resumes it.
func TestHookIsSuspended(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.options.WaitTimeout = 2 * time.Second
	w.open(t)
	migrate := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, annotations: {sluice/hook: before}}\n" +
		"spec:\n  suspend: true\n  activeDeadlineSeconds: 3600\n" +
		"  template:\n    spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}\n"
	err := w.target.Apply(t.Context(), release("1.0.0", documents(migrate, deployment("web", "web:1"))))
	if !errors.As(err, new(*cells.UnavailableError)) ||
		!strings.Contains(err.Error(), "is not done within 2s, and was deleted: it is ") {
		t.Errorf("apply says %v", err)
	}
	w.wantThere(t, false, "deployment", "web")
	eventually(t, "the Job is gone", func() error {
		if jobs := w.kubectl(t, "get", "jobs", "-o", "name"); jobs != "" {
			return fmt.Errorf("there are still %s", jobs)
		}
		return nil
	})
}

// A Job that succeeded, and that its ttlSecondsAfterFinished removed, is healthy and does not run again, until a
// release has another.
func TestJobIsDoneAndGone(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	job := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  ttlSecondsAfterFinished: 0\n" +
		"  template:\n    spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}\n"
	hook := strings.Replace(job, "name: j", "name: h, annotations: {sluice/hook: before}", 1)
	writes, _ := w.counted(t)
	gone := func() {
		t.Helper()
		eventually(t, "the Job is gone", func() error {
			if jobs := w.kubectl(t, "get", "jobs", "-o", "name"); jobs != "" {
				return fmt.Errorf("there is %s", jobs)
			}
			return nil
		})
	}
	r := release("1.0.0", documents(job, hook, configMap("a", "1")))
	eventually(t, "it is applied", func() error { return w.target.Apply(t.Context(), r) })
	gone()
	w.awaitHealthy(t)
	w.settle(t, r)
	w.open(t)
	w.settle(t, r)
	w.awaitHealthy(t)
	w.install(t, release("1.1.0", documents(job, configMap("a", "1"))))
	found := w.compare(t, "1.1.1", documents(job, configMap("a", "1")))
	if len(found.Changes) > 0 || found.Unchanged != 2 {
		t.Errorf("a release with the same Job would change %v", found.Changes)
	}
	if n := writes.Load(); n != 3 {
		t.Errorf("%d writes for three objects", n)
	}
	r = release("1.2.0", documents(strings.Replace(job, "c:1", "c:2", 1), configMap("a", "1")))
	must(t, w.target.Apply(t.Context(), r))
	gone()
	w.install(t, r)
	if n := writes.Load(); n != 4 {
		t.Errorf("%d writes, want one more for the changed Job", n)
	}
}

// A hook that is superseded, or withdrawn, while it runs is gone with its pods before what follows is written. An agent
// that is started anew goes on with it.
func TestHookIsSuperseded(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	migrate := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, annotations: {sluice/hook: before}}\n" +
		"spec:\n  template:\n    metadata: {finalizers: [example.com/hold]}\n" +
		"    spec: {%srestartPolicy: Never, containers: [{name: c, image: 'c:1'}]}\n"
	runs := fmt.Sprintf(migrate, "nodeSelector: {nowhere: 'yes'}, ")
	jobs := func() string { return w.kubectl(t, "get", "jobs", "-o", "jsonpath={.items[*].metadata.uid}") }
	pods := func() []string { return strings.Fields(w.kubectl(t, "get", "pods", "-o", "name")) }
	interrupt := func(r cells.Rendered, isSo func() error) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.target.Apply(ctx, r) }()
		eventually(t, "the hook runs", isSo)
		cancel(errors.New("superseded"))
		if err := <-done; err == nil || !strings.Contains(err.Error(), "superseded") {
			t.Errorf("apply says %v", err)
		}
	}
	good := release("1.0.0", configMap("a", "1"))
	w.install(t, good)
	bad := release("1.1.0", documents(runs, configMap("a", "2")))
	hookRuns := func() error {
		if len(pods()) != 1 {
			return errors.New("it has no pod")
		}
		return nil
	}
	interrupt(bad, hookRuns)
	before := jobs()
	w.open(t)
	interrupt(bad, hookRuns)
	if now := jobs(); now != before || len(strings.Fields(now)) != 1 {
		t.Errorf("the Jobs are %s, want the one of before, %s", now, before)
	}
	next := release("1.2.0", documents(fmt.Sprintf(migrate, ""), configMap("a", "3")))
	interrupt(next, func() error { // the pod of before takes its time
		if w.kubectl(t, "get", "jobs", "-o", "jsonpath={.items[*].metadata.deletionTimestamp}") == "" {
			return errors.New("the Job is not being deleted")
		}
		return nil
	})
	if now := jobs(); now != before {
		t.Errorf("the Jobs are %s: a hook runs beside the one of before, %s", now, before)
	}
	if got := w.values(t)["a"]; got != "2" {
		t.Errorf("a is %s: something follows beside the hook", got)
	}
	w.options.WaitTimeout = 2 * time.Second
	w.open(t)
	err := w.target.Apply(t.Context(), back(good))
	var unavailable *cells.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "is not gone within 2s: it waits until its pods") {
		t.Errorf("apply says %v", err)
	}
	for _, pod := range pods() {
		w.kubectl(t, "patch", pod, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	}
	w.options.WaitTimeout = wait
	w.open(t)
	w.install(t, back(good))
	if left := append(pods(), strings.Fields(jobs())...); len(left) > 0 {
		t.Errorf("there are still %v", left)
	}
}

// Fault 47: an apply that waits ends at once when it is superseded.
func TestFault47SupersededWhileWaiting(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	late := secondWave(deployment("late", "web:1"))
	ctx, cancel := context.WithCancelCause(t.Context())
	superseded := errors.New("superseded")
	done := make(chan error, 1)
	go func() {
		done <- w.target.Apply(ctx, release("1.0.0", documents(deployment("web", "web:bad"), late)))
	}()
	eventually(t, "the first wave is there", func() error {
		if !w.has(t, "deployment", "web") {
			return errors.New("not yet")
		}
		return nil
	})
	start := time.Now()
	cancel(superseded)
	if err := <-done; !errors.Is(err, superseded) {
		t.Errorf("apply says %v", err)
	}
	if took := time.Since(start); took > 5*time.Second { // a second, on a machine that is not busy
		t.Errorf("it took %s to end", took)
	}
	w.install(t, release("1.1.0", deployment("web", "web:1")))
}

// A deletion that hangs, and a namespace that stays Terminating, are said and not waited for.
func TestDeletionHangs(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.options.RemovalWait = 500 * time.Millisecond
	w.open(t)
	held := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/hold]}\n"
	w.install(t, release("1.0.0", documents(configMap("a", "1"), held)))
	next := release("1.1.0", configMap("a", "1"))
	w.install(t, next)
	if notes := strings.Join(w.target.Notes(), ""); !strings.Contains(notes, "finalizer example.com/hold") {
		t.Errorf("the notes are %q", notes)
	}
	w.kubectl(t, "patch", "configmap", "held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	next.Proven = true
	w.healUntil(t, next, "no note is left", func() error {
		if notes := w.target.Notes(); len(notes) > 0 {
			return fmt.Errorf("%v", notes)
		}
		return nil
	})
	space := w.namespace + "-t"
	w.Run(t, "", "create", "namespace", space)
	w.Run(t, strings.Replace(held, "name: held", "name: held, namespace: "+space, 1), "apply", "-f", "-")
	w.Run(t, "", "delete", "namespace", space, "--wait=false")
	err := w.target.Apply(t.Context(), release("1.2.0",
		documents(configMap("a", "1"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: "+space+"}\n")))
	var unavailable *cells.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "namespace is being deleted") {
		t.Errorf("apply says %v", err)
	}
	w.Run(t, "", "-n", space, "patch", "configmap", "held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
}
