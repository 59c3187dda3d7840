package test

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/cluster"
)

// readmeBlocks returns the blocks of commands of a section of README.md.
func readmeBlocks(t *testing.T, heading string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	for i, part := range strings.Split(section, "```") {
		if i%2 == 1 {
			blocks = append(blocks, strings.TrimSpace(part))
		}
	}
	return blocks
}

// From nothing to a release in a cluster, by the commands that README.md has for it. No container runs here, so what
// the agent's pod would run is run as a process, with the pod's own arguments, token and rights.
func TestReadmeFromNothingToACluster(t *testing.T) {
	w := newWorld(t, nil)
	c := cluster.New(t, 1)
	providePodState(t, c)
	dir := w.path("newcomer")
	var program string
	for path, text := range map[string]string{
		"deploy/kustomization.yaml": "resources: [web.yaml]\n",
		"deploy/web.yaml":           clusterRelease("1.0.0", "web:1")["releases/1.0.0/web.yaml"],
		"bin/README":                "programs",
	} {
		program = filepath.Join(dir, "bin", "sluice")
		err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755) //nolint:gosec // a test's
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644) //nolint:gosec // a test's
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	self, err := filepath.Abs(os.Getenv(binaryVariable))
	if err == nil {
		err = os.Symlink(self, program)
	}
	if err != nil {
		t.Fatal(err)
	}
	blocks := readmeBlocks(t, "### In a Kubernetes cluster")
	if len(blocks) != 2 {
		t.Fatalf("README.md has the blocks %q, want one for each terminal", blocks)
	}
	cells, listen := freePort(t), freePort(t)
	here := strings.NewReplacer("0.0.0.0:7601", cells, "sluice.example.com:7601", cells, "127.0.0.1:7600", listen,
		"sluice serve ", "sluice serve --listen "+listen+" ")
	for i := range blocks {
		blocks[i] = here.Replace(blocks[i])
	}
	env := append(os.Environ(), "PATH="+strings.Join([]string{filepath.Dir(program), c.Programs(), os.Getenv("PATH")},
		string(os.PathListSeparator)), "KUBECONFIG="+c.Kubeconfig, "HOME="+dir, "XDG_CACHE_HOME="+w.path("cache"),
		"GIT_AUTHOR_NAME=ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=ada",
		"GIT_COMMITTER_EMAIL=ada@example.com", "SLUICE_SERVER=", "SLUICE_REPO=", "SLUICE_DATA=")
	terminal := func(name, script string) (end func() error, said func() string) {
		t.Helper()
		out, err := os.Create(w.path(name + ".log"))
		if err != nil {
			t.Fatal(err)
		}
		sh := exec.CommandContext(t.Context(), "sh", "-ec", script) //nolint:gosec // README's
		sh.Dir, sh.Env, sh.Stdout, sh.Stderr = dir, env, out, out
		sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := sh.Start(); err != nil {
			t.Fatal(err)
		}
		end = sync.OnceValue(sh.Wait)
		t.Cleanup(func() {
			_ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL)
			_ = end() // it was killed, if it had not ended
			_ = out.Close()
		})
		return end, func() string {
			text, err := os.ReadFile(out.Name())
			if err != nil {
				t.Error(err)
			}
			return string(text)
		}
	}
	begun := time.Now()
	_, serves := terminal("first", blocks[0])
	w.eventually(func() (string, bool) {
		return "serve says: " + serves(), strings.Contains(serves(), "listening on ")
	})
	commands := strings.Split(blocks[1], "\n")
	last := len(commands) - 1
	if !strings.HasPrefix(commands[last], "sluice wait ") || !strings.HasPrefix(commands[last-1], "kubectl apply ") {
		t.Fatalf("README.md does not end by waiting: %q", commands)
	}
	commands[last-1] += "\n" + commands[last-1] // it may be repeated
	if end, said := terminal("second", strings.Join(commands[:last], "\n")); end() != nil {
		t.Fatalf("%s\n%s\n%s", blocks[1], said(), serves())
	}

	token, err := base64.StdEncoding.DecodeString(c.Run(t, "", "-n", "sluice", "get", "secret", "sluice-join", "-o",
		"jsonpath={.data.token}"))
	if err == nil {
		err = os.WriteFile(w.path("token"), token, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	pod := &agentPod{w: w, cluster: c, kubeconfig: w.kubeconfigOf(c, "sluice-agent"), token: w.path("token")}
	w.eventually(func() (string, bool) {
		pod.sync()
		return "the agent's pod is not there", len(pod.processes) > 0
	})
	if end, said := terminal("third", commands[last]); end() != nil {
		t.Fatalf("%s\n%s\n%s", commands[last], said(), serves())
	}
	t.Logf("README's commands took %s", time.Since(begun).Round(time.Second))
	if replicas := c.Run(t, "", "-n", "shop", "get", "deployment", "web", "-o",
		"jsonpath={.status.availableReplicas}"); replicas != "2" {
		t.Errorf("%s replicas are available", replicas)
	}
}
