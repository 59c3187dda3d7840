package test

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/ssh"
)

// A release replaces the agent of a machine, which the printed unit starts, over the cell's one connection: by the
// image that a cluster takes too. Of a release with an agent that hangs, the guard puts the one before back; the
// release failed, and nothing of it was applied.
func TestMachineAgentUpdatesItself(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer upstream.Close()
	vendor := strings.TrimPrefix(upstream.URL, "http://") + "/team/sluice"
	whole, err := os.ReadFile(os.Getenv(binaryVariable))
	if err != nil {
		t.Fatal(err)
	}
	newer := pushAgent(t, vendor, whole) // in place of sluice-agent
	hangs := pushAgent(t, vendor, []byte("#!/bin/sh\ncase $1 in version) exit 0 ;; esac\nexec sleep 1000\n"))

	w, agent := startSignedMachine(t, strings.TrimSuffix(vendor, "/team/sluice"))
	w.signRelease("1.0.0", "")
	w.awaitRelease("eu-2", "1.0.0")
	if got, want := agent.program(), os.Getenv(agentVariable); got != want {
		t.Errorf("at first %s runs, want the installed %s", got, want)
	}
	w.signRelease("1.1.0", newer)
	w.awaitRelease("eu-2", "1.1.0")
	programs := w.path("state", "update", "programs") + string(os.PathSeparator)
	taken := agent.program()
	if !strings.HasPrefix(taken, programs) {
		t.Errorf("%s runs, want the program of 1.1.0 in %s", taken, programs)
	}
	agent.kill() // the machine loses power
	agent.start()
	w.awaitRelease("eu-2", "1.1.0")
	w.eventually(func() (string, bool) { return "another program runs", agent.program() == taken })

	w.signRelease("1.2.0", hangs)
	w.eventually(func() (string, bool) {
		quarantine := w.readCommitted("quarantine/1.2.0.yaml")
		return "1.2.0 is not quarantined: " + quarantine, strings.Contains(quarantine,
			"did not report within 30s: the one before, "+newer+", was put back")
	})
	w.eventually(func() (string, bool) { return "another program runs", agent.program() == taken })
	if got := w.installedManifests("eu-2"); !strings.Contains(got, "1.1.0") {
		t.Errorf("of 1.2.0 something was applied:\n%s", got)
	}
}

// machineAgent is the guard of a machine's agent, as the unit starts it.
type machineAgent struct{ *process }

// program returns the program of the agent below the guard; empty: none runs.
func (a machineAgent) program() string {
	a.w.t.Helper()
	for _, entry := range must(filepath.Glob("/proc/[0-9]*/status")) {
		text, err := os.ReadFile(entry) //nolint:gosec // of a process
		if err != nil || !strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", a.cmd.Process.Pid)) {
			continue
		}
		if name, err := os.Readlink(filepath.Join(filepath.Dir(entry), "exe")); err == nil {
			return name
		}
	}
	return ""
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// startSignedMachine starts a control plane that serves a registry's images and whose releases two signers sign, and
// the agent of the cell eu-2 on a machine, by the unit that bootstrap writes.
func startSignedMachine(t *testing.T, registry string) (*world, machineAgent) {
	t.Helper()
	keys := map[string]string{}
	w := newWorld(t, func(files map[string]string) {
		files["sluice.yaml"] += "people:\n"
		for _, person := range []string{"ada", "grace"} {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			key := must(ssh.NewPublicKey(public))
			keys[person] = string(pem.EncodeToMemory(must(ssh.MarshalPrivateKey(private, ""))))
			files["sluice.yaml"] += fmt.Sprintf("  %s: {email: %s@example.com, keys: [%q]}\n", person, person,
				strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
		}
	})
	config := fmt.Appendf(nil, `{"auths": {%q: {}}}`, registry)
	err := os.WriteFile(w.path("config.json"), config, 0o600)
	for person, key := range keys {
		err = errors.Join(err, os.WriteFile(w.path(person), []byte(key), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	w.server.args = append(w.server.args, "--cells", freePort(t), "--registries", w.path("config.json"))
	w.server.start()
	w.cutRelease("0.9.0", "before anybody signs")
	w.eventually(func() (string, bool) { // the engine lists its key first
		out, err := w.runSluice("trust", "init", "--signer", "ada", "--signer", "grace", "--channel", "staging",
			"--key", w.path("ada"))
		return out, err == nil
	})
	w.mustRunSluice("trust", "sign", "--key", w.path("grace"))

	root := w.path("machine")
	w.mustRunSluice("cell", "bootstrap", "eu-2", "--channel", "staging", "--target", "host", "--self-update",
		"--dir", w.path("cells", "eu-2"), "--state", w.path("state"), "--health", healthCommand, "--program",
		os.Getenv(agentVariable), "--out", w.path("install"), "--server", w.socket())
	script := exec.CommandContext(t.Context(), "sh", w.path("install", "install.sh")) //nolint:gosec // as printed
	script.Env = append(w.env(), "DESTDIR="+root)
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w, machineAgent{w.startUnit(root, "eu-2")}
}

// startUnit starts what the unit of a cell's agent starts; there is no systemd here.
func (w *world) startUnit(root, cell string) *process {
	w.t.Helper()
	unit, err := os.ReadFile(filepath.Join(root, "etc/systemd/system/sluice-agent-"+cell+".service"))
	if err != nil {
		w.t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(unit), "\nExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	line = strings.NewReplacer("%%", "%", "$$", `\$`).Replace(line) // as systemd reads it
	line = strings.ReplaceAll(line, `"@/etc`, `"@`+root+"/etc")
	split := exec.CommandContext(w.t.Context(), "sh", "-c", `printf '%s\n' `+line) //nolint:gosec // the unit's
	words, err := split.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")
	if all[0] != os.Getenv(agentVariable) || !slices.Contains(all, "--self-update") {
		w.t.Fatalf("the unit starts %q", all)
	}
	return w.process(cell, append(all[1:], "--update-limit", "30s", "--healthy-for", "1s", "--health-every", "500ms",
		"--report-every", "500ms")...).start()
}

// signRelease cuts a release that may name an agent, and has both signers sign it.
func (w *world) signRelease(version, agent string) {
	w.t.Helper()
	if agent != "" {
		agent = fmt.Sprintf("components: [{name: sluice-agent, image: %q}]\n", agent)
	}
	files := map[string]string{}
	for name, data := range releaseFiles(version) {
		files[name] = string(data)
	}
	files["releases/"+version+"/release.yaml"] += agent
	w.pushFiles("cut "+version, files)
	w.mustRunSluice("trust", "sign", version, "--key", w.path("ada"))
	w.mustRunSluice("trust", "sign", "--key", w.path("grace"))
}

// pushAgent pushes an image of an agent for this machine, below an index, and returns its name by digest.
func pushAgent(t *testing.T, repository string, program []byte) string {
	t.Helper()
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	err := archive.WriteHeader(&tar.Header{Name: "usr/bin/sluice", Typeflag: tar.TypeReg, Mode: 0o755,
		Size: int64(len(program))})
	if err == nil {
		_, err = archive.Write(program)
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		t.Fatal(err)
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image = must(mutate.AppendLayers(image, static.NewLayer(layer.Bytes(), types.OCIUncompressedLayer)))
	here := v1.Descriptor{Platform: &v1.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: image, Descriptor: here})
	to := must(name.NewTag(repository+":latest", name.Insecure))
	if err := remote.WriteIndex(to, index); err != nil {
		t.Fatal(err)
	}
	return repository + "@" + must(index.Digest()).String()
}
