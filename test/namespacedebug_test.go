package test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/cluster/kubelet"
)

// addPerson lists a new key of ada's in sluice.yaml, and returns what writes the private key into a file.
func addPerson(files map[string]string) (write func(file string) error, err error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	files["sluice.yaml"] += fmt.Sprintf("people:\n  ada: {email: ada@example.com, keys: [%q]}\n",
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))))
	return func(file string) error { return os.WriteFile(file, pem.EncodeToMemory(block), 0o600) }, nil
}

// askForShell has ada ask for a shell in a cell, by a key in a file, and returns the request's ID once the cell has it.
func (w *world) askForShell(cell, key string, state ...string) (id string) {
	w.t.Helper()
	out := w.mustRunSluice("debug", "request", cell, "--case", "1", "--reason", "A test", "--scope", "shell", "--as",
		"ada", "--key", key, "-o", "json")
	var asked struct{ ID string }
	if err := json.Unmarshal([]byte(out), &asked); err != nil || asked.ID == "" {
		w.t.Fatalf("%v: %s", err, out)
	}
	w.eventually(func() (string, bool) {
		_, err := w.runSluice(append([]string{"cell", "debug", "show", asked.ID}, state...)...)
		return "the cell does not know of the request", err == nil
	})
	return asked.ID
}

// debugCell has ada use a shell in a cell, by a key in a file, and calls during while the session lasts.
func (w *world) debugCell(cell, key string, during func()) {
	w.t.Helper()
	dir := w.path("cells", cell)
	id := w.askForShell(cell, key, "--dir", dir)
	w.mustRunSluice("cell", "debug", "approve", id, "--dir", dir)
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	var said bytes.Buffer
	person := exec.CommandContext(ctx, os.Getenv(binaryVariable), "debug", "connect", cell, //nolint:gosec // ours
		id, "--key", key, "--", "echo be''gun; sleep 600")
	person.Env, person.Stdout, person.Stderr = w.env(), &said, &said
	if err := person.Start(); err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = person.Wait() }() // the owner's stop ends it, or cancel
	w.eventually(func() (string, bool) {
		text, err := os.ReadFile(dir + "/.agent/debug/" + id + "/record.cast")
		return "the session has not begun", err == nil && bytes.Contains(text, []byte("begun"))
	})
	during()
	w.mustRunSluice("cell", "debug", "stop", id, "--dir", dir)
	w.eventually(func() (string, bool) {
		shown, err := w.runSluice("cell", "debug", "show", id, "--dir", dir)
		return "the session goes on: " + shown, err == nil && strings.Contains(shown, "the cell's owner stopped it")
	})
}

// debugPod has ada use a shell in a pod of a cell whose agent may run some there.
func (w *world) debugPod(c *cluster.Cluster, cell, key, kubeconfig string) {
	w.t.Helper()
	kubelet.NewExecs(w.t, c)
	pod := c.Run(w.t, "", "-n", "shop", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
	state := []string{"--state", w.path("states", cell)}
	id := w.askForShell(cell, key, state...)
	said := w.mustRunSluice(append([]string{"cell", "debug", "approve", id, "--pod", "shop/" + pod, "--kubeconfig",
		kubeconfig}, state...)...)
	shown := w.mustRunSluice(append([]string{"cell", "debug", "show", id}, state...)...)
	for _, text := range []string{said, shown} {
		if !strings.Contains(text, "of pod shop/"+pod) || !strings.Contains(text, "UID ") {
			w.t.Errorf("the owner does not see which pod was permitted: %s", text)
		}
	}
	out := w.mustRunSluice("debug", "connect", cell, id, "--key", key, "--", "echo in $SLUICE_DEBUG")
	if !strings.Contains(out, "in "+id) {
		w.t.Errorf("in the pod: %s", out)
	}
}
