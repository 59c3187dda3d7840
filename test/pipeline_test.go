package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sluice-cd/sluice/releases"
)

// The main path: a release goes from a commit through staging into dedicated. An ordinary git push is noticed without
// polling.
func TestReleaseGoesTheWholeWay(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil)
	w.cutRelease("1.0.0", "fine")
	w.awaitRelease("acme", "1.0.0")
	w.awaitRelease("eu-1", "1.0.0")
	log := git(t, w.repo, "log", "-1", "--format=%B", "main", "--", "channels/dedicated/head.yaml")
	for _, line := range []string{"promote 1.0.0 to dedicated\n", "\nRelease: 1.0.0\n", "\nDigest: sha256:",
		"\nFrom: staging@", "\nGate: soak held, 1 of 1 cell healthy for ", "\nDecided-On: ", "\nDecision: sha256:"} {
		if !strings.Contains(log, line) {
			t.Errorf("no %q in\n%s", line, log)
		}
	}
	// Invariant 1: decided on exactly the commit that it was pushed onto.
	written := strings.TrimSpace(git(t, w.repo, "log", "-1", "--format=%H", "main", "--",
		"channels/dedicated/head.yaml"))
	if parent := strings.TrimSpace(git(t, w.repo, "rev-parse", written+"^")); !strings.Contains(log,
		"Decided-On: "+parent) {
		t.Errorf("decided on another commit than %s:\n%s", parent, log)
	}
	changed := strings.Fields(git(t, w.repo, "diff-tree", "--no-commit-id", "--name-only", "-r", written))
	if diff := cmp.Diff([]string{"channels/dedicated/decision.json", "channels/dedicated/head.yaml"},
		changed); diff != "" {
		t.Errorf("a promotion changes head.yaml and decision.json only:\n%s", diff)
	}
}

// Fault 32: staging catches a bad release: one automatic rollback, a quarantine, nothing in dedicated; the next release
// is promoted.
func TestBadReleaseStopsInStaging(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil)
	w.cutRelease("1.0.0", "fine")
	w.awaitRelease("acme", "1.0.0")
	w.cutRelease("1.1.0", "broken")
	w.eventually(func() (string, bool) {
		return "1.1.0 is not quarantined", strings.Contains(w.readCommitted("quarantine/1.1.0.yaml"),
			"failedIn: staging")
	})
	w.awaitRelease("eu-1", "1.0.0")
	if q := w.readCommitted("quarantine/1.1.0.yaml"); !strings.Contains(q, "it is broken") {
		t.Errorf("the quarantine does not say what the health command said:\n%s", q)
	}
	w.cutRelease("1.2.0", "fine")
	w.awaitRelease("acme", "1.2.0")
	want := []string{"promote 1.0.0 to staging", "promote 1.1.0 to staging", "roll back staging to 1.0.0",
		"promote 1.2.0 to staging"}
	if diff := cmp.Diff(want, w.headSubjects("staging")); diff != "" {
		t.Errorf("staging:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"promote 1.0.0 to dedicated", "promote 1.2.0 to dedicated"},
		w.headSubjects("dedicated")); diff != "" {
		t.Errorf("dedicated:\n%s", diff)
	}
	if c := w.cellStatus("acme"); c.Failures != 0 {
		t.Errorf("acme had it: %+v", c)
	}
	checkPromotedOnce(t, w.repo, "staging")
	checkPromotedOnce(t, w.repo, "dedicated")
}

// Fault 35 (the rest is in cells/agent): without a control plane a cell keeps running and heals. It rolls back by
// itself, and reports so when the control plane returns.
func TestCellWithoutControlPlane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	held := w.path("held")
	w.addAgent("eu-1", "--hook", fmt.Sprintf("while [ -e %s ]; do sleep 0.02; done", held))
	w.startAll()
	w.cutRelease("1.0.0", "fine")
	w.awaitRelease("eu-1", "1.0.0")
	good := w.installedManifests("eu-1")

	w.server.kill()
	drifted := w.path("cells", "eu-1", "current", "manifests.yaml")
	if err := os.WriteFile(drifted, []byte("edited by hand"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() (string, bool) { return "drift is not healed", w.installedManifests("eu-1") == good })

	// The control plane goes away while the next release is being applied.
	w.server.start()
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.cutRelease("1.1.0", "broken")
	w.eventually(func() (string, bool) {
		return "1.1.0 is not applied", strings.Contains(w.installedManifests("eu-1"), "version: 1.1.0")
	})
	w.server.kill()
	if err := os.Remove(held); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() (string, bool) { return "the cell did not roll back", w.installedManifests("eu-1") == good })
	w.agents["eu-1"].kill() // a power loss does not erase the rollback
	w.agents["eu-1"].start()
	w.server.start()
	w.eventually(func() (string, bool) {
		return "staging was not rolled back", slices.Equal(w.headSubjects("staging"),
			[]string{"promote 1.0.0 to staging", "promote 1.1.0 to staging", "roll back staging to 1.0.0"})
	})
	w.awaitRelease("eu-1", "1.0.0")
}

// Fault 48: the release that the cell would roll back to is gone from its disk, and the control plane is away. The cell
// keeps what runs until it can fetch that release again.
func TestRollbackTargetGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	held := w.path("held")
	w.addAgent("eu-1", "--hook", fmt.Sprintf("while [ -e %s ]; do sleep 0.02; done", held))
	w.startAll()
	w.cutRelease("1.0.0", "fine")
	w.awaitRelease("eu-1", "1.0.0")
	good := w.installedManifests("eu-1")
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.cutRelease("1.1.0", "broken")
	w.eventually(func() (string, bool) {
		return "1.1.0 is not applied", strings.Contains(w.installedManifests("eu-1"), "version: 1.1.0")
	})
	w.server.kill()
	for _, kept := range []string{"releases", "rendered"} {
		files, err := filepath.Glob(w.path("cells", "eu-1", ".agent", kept, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("nothing is kept in %s: %v", kept, err)
		}
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(held); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() (string, bool) {
		log, err := os.ReadFile(w.path("eu-1.log"))
		return "it does not say that 1.1.0 failed", err == nil && bytes.Contains(log, []byte("it is broken"))
	})
	if now := w.installedManifests("eu-1"); !strings.Contains(now, "version: 1.1.0") {
		t.Errorf("what ran was not kept: %s", now)
	}
	w.server.start()
	w.eventually(func() (string, bool) { return "the cell did not roll back", w.installedManifests("eu-1") == good })
	w.awaitRelease("eu-1", "1.0.0")
}

// valuesRelease returns a release with a parameter that can make the health command fail.
func valuesRelease(version string) map[string]string {
	dir := "releases/" + version + "/"
	return map[string]string{
		dir + "release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: " + version +
			"\nparameters:\n  note: {type: string, default: none}\n",
		dir +
			"kustomization.yaml": "resources: [app.yaml, sluice-values.yaml]\nreplacements:\n" +
			"- source: {kind: ConfigMap, name: sluice-values, fieldPath: data.note}\n" +
			"  targets: [{select: {kind: ConfigMap, name: app}, fieldPaths: [data.note]}]\n",
		dir +
			"sluice-values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: sluice-values\n" +
			"  annotations: {config.kubernetes.io/local-config: \"true\"}\ndata: {note: none}\n",
		dir + "app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {version: " +
			version + ", note: unset}\n",
	}
}

// Fault 52, R13: a change of one cell's values alone reaches that cell without a promotion. Values that do not work
// send the cell back to the old ones, and the release is not blamed.
func TestValuesAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(files map[string]string) {
		files["cells/beta/cell.yaml"] = files["cells/acme/cell.yaml"]
	})
	w.addAgent("eu-1")
	w.addAgent("acme")
	w.addAgent("beta")
	w.startAll()
	w.pushFiles("cut 1.0.0", valuesRelease("1.0.0"))
	w.awaitRelease("acme", "1.0.0")
	w.awaitRelease("beta", "1.0.0")
	values := func(note string) {
		w.pushFiles("acme: another note",
			map[string]string{"cells/acme/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n" +
				"values: {note: " + note + "}\n"})
	}
	values("blue")
	w.eventually(func() (string, bool) {
		return "acme did not get its value", strings.Contains(w.installedManifests("acme"), "note: blue")
	})
	w.awaitRelease("acme", "1.0.0")
	values("broken")
	w.eventually(func() (string, bool) {
		c := w.cellStatus("acme")
		return fmt.Sprintf("acme: %+v", c), c.Failures == 1 && c.State == "healthy" &&
			strings.Contains(w.installedManifests("acme"), "note: blue")
	})
	if beta := w.installedManifests("beta"); !strings.Contains(beta, "note: none") {
		t.Errorf("beta: %s", beta)
	}
	// The release still counts as good: the next one is promoted.
	w.pushFiles("cut 1.1.0", valuesRelease("1.1.0"))
	w.awaitRelease("beta", "1.1.0")
	for _, channel := range []string{"staging", "dedicated"} {
		want := []string{"promote 1.0.0 to " + channel, "promote 1.1.0 to " + channel}
		if diff := cmp.Diff(want, w.headSubjects(channel)); diff != "" {
			t.Errorf("%s:\n%s", channel, diff)
		}
	}
	if q := git(t, w.repo, "ls-tree", "main", "quarantine/"); q != "" {
		t.Errorf("quarantined: %s", q)
	}
}

// shopBase returns a third party's kustomize base, with nothing of Sluice in it.
func shopBase() map[string]string {
	return map[string]string{
		"kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n" +
			"  - hpa.yaml\n  - deployment.yaml\n  - service.yaml\n",
		"deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: greeter
spec:
  minReadySeconds: 3
  strategy:
    rollingUpdate:
      maxUnavailable: 0
    type: RollingUpdate
  selector:
    matchLabels:
      app: greeter
  template:
    metadata:
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "9797"
      labels:
        app: greeter
    spec:
      containers:
      - name: greeter
        image: registry.example/greeter:6.5.4
        imagePullPolicy: IfNotPresent
        ports:
        - name: http
          containerPort: 9898
          protocol: TCP
        command: ["./greeter", "--port=9898", "--level=info"]
        readinessProbe:
          exec:
            command: [greeter, check, http, "localhost:9898/readyz"]
          initialDelaySeconds: 5
          timeoutSeconds: 5
        resources:
          limits: {cpu: 2000m, memory: 512Mi}
          requests: {cpu: 100m, memory: 64Mi}
`,
		"service.yaml": `apiVersion: v1
kind: Service
metadata:
  name: greeter
spec:
  type: ClusterIP
  selector:
    app: greeter
  ports:
    - name: http
      port: 9898
      targetPort: http
`,
		"hpa.yaml": `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: greeter
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: greeter
  minReplicas: 2
  maxReplicas: 4
  metrics:
  - type: Resource
    resource:
      name: cpu
      target:
        type: Utilization
        averageUtilization: 99
`,
	}
}

// Invariant 5: a third party's kustomize base, to which only release.yaml is added, goes the whole way unchanged. The
// served bytes are the committed ones, and the cell runs the objects that kustomize itself makes.
func TestOthersBaseGoesUnchanged(t *testing.T) {
	t.Parallel()
	w := startWorld(t, nil)
	base, files := shopBase(), map[string]string{"releases/6.5.4/release.yaml": "apiVersion: sluice/v1\n" +
		"kind: Release\nversion: 6.5.4\n"}
	for name, text := range base {
		files["releases/6.5.4/"+name] = text
	}
	w.pushFiles("cut 6.5.4", files)
	w.eventually(func() (string, bool) {
		c := w.cellStatus("acme")
		return fmt.Sprintf("acme: %+v", c), c.Release == "6.5.4" && c.State == "healthy"
	})
	var tar bytes.Buffer
	if err := releases.Pack(&tar, os.DirFS(w.clone), "releases/6.5.4"); err != nil {
		t.Fatal(err)
	}
	var served []byte
	if err := w.getJSON("/v1/releases/"+string(releases.DigestBytes(tar.Bytes()))+"?cell=acme", &served); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(served, tar.Bytes()) {
		t.Error("what is served is not the canonical tar of what was committed")
	}
	if is := string(w.cellStatus("acme").Digest); is != string(releases.DigestBytes(tar.Bytes())) {
		t.Errorf("acme runs %s", is)
	}
	memory := filesys.MakeFsInMemory()
	for name, text := range base {
		if err := memory.WriteFile("/"+name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/")
	if err != nil {
		t.Fatal(err)
	}
	want, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parseManifests(t, want), parseManifests(t, []byte(w.installedManifests("acme")))); diff != "" {
		t.Errorf("what the cell runs is not what kustomize makes:\n%s", diff)
	}
}

// parseManifests decodes a stream of manifests, by kind and name.
func parseManifests(t *testing.T, stream []byte) map[string]any {
	t.Helper()
	all := map[string]any{}
	for d := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var one map[string]any
		err := d.Decode(&one)
		if err == io.EOF { //nolint:errorlint // as it comes
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		meta, _ := one["metadata"].(map[string]any)
		all[fmt.Sprint(one["kind"], " ", meta["name"])] = one
	}
}

// If only the git host's hook announces pushes, a signed hook suffices, and an unsigned one does nothing.
func TestHookFetches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const secret = "a secret of two"
	if err := os.WriteFile(w.path("secret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, w.repo, "config", "http.receivepack", "true")
	w.server.args = []string{"serve", "--repo", serveGitHTTP(t, w.dir) + "/repo.git", "--data", w.path("data"),
		"--listen", w.socket(), "--poll", "1h",
		"--branch", "main", "--hook-secret-file", w.path("secret")}
	w.server.start()
	w.awaitFirstRead()
	before := w.status().Commit
	w.cutRelease("1.0.0", "fine")
	body := []byte(`{"ref":"refs/heads/main","after":"` + strings.TrimSpace(git(t, w.repo, "rev-parse", "main")) + `"}`)
	if code := w.postHook(body, "a guess"); code != http.StatusUnauthorized {
		t.Errorf("a hook with a wrong signature: %d", code)
	}
	if now := w.status().Commit; now != before {
		t.Errorf("the repository was read without a signed hook: %s", now)
	}
	if code := w.postHook(body, secret); code != http.StatusAccepted {
		t.Errorf("a signed hook: %d", code)
	}
	w.eventually(func() (string, bool) { return "staging did not get 1.0.0", w.headRelease("staging") == "1.0.0" })
}

// postHook announces a push to the control plane as GitHub does, and returns the status code.
func (w *world) postHook(body []byte, secret string) int {
	w.t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	response, err := w.request(http.MethodPost, "/v1/hooks/push", body, http.Header{
		"Content-Type": {"application/json"}, "X-Github-Event": {"push"},
		"X-Hub-Signature-256": {"sha256=" + hex.EncodeToString(mac.Sum(nil))},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// serveGitHTTP serves the repositories of a folder as git http-backend does.
func serveGitHTTP(t *testing.T, root string) string {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&cgi.Handler{Path: path, Args: []string{"http-backend"}, Dir: root,
		InheritEnv: []string{"PATH"}, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=engine",
			"GIT_CONFIG_NOSYSTEM=1", "HOME=" + root}})
	t.Cleanup(server.Close)
	return server.URL
}
