package host

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

// The tests run real guards and agents: this program is both.
const (
	roleVariable  = "HOST_TEST_ROLE"  // guard, or how an agent behaves
	placeVariable = "HOST_TEST_PLACE" // the folder of a place
	limitVariable = "HOST_TEST_LIMIT" // how long a new agent may take
	every         = 200 * time.Millisecond
	shortLimit    = "5s" // for agents that are put back after it
	hold          = time.Second
)

func TestMain(m *testing.M) {
	p := place{dir: os.Getenv(placeVariable)}
	limit, err := time.ParseDuration(cmp.Or(os.Getenv(limitVariable), "1m"))
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch role := os.Getenv(roleVariable); {
	case len(os.Args) > 1 && os.Args[1] == "version" && p.dir != "":
		os.Exit(map[string]int{"broken": 1}[role])
	case role == "guard":
		err := NewGuard(GuardOptions{Dir: p.path("update"), Program: p.path("installed"), Env: os.Environ(),
			Stdout: os.Stderr, Stderr: os.Stderr, Limit: limit, Every: every, Hold: hold,
			Log: zerolog.New(os.Stderr)}).Run(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case role == "crashing":
		os.Exit(1)
	case role != "":
		p.runAgent(ctx, role, limit)
	default:
		os.Exit(m.Run())
	}
}

// runAgent plays an agent: it has itself replaced as the file release says, and notes in the file result what came of
// that. A mute one never reports.
func (p place) runAgent(ctx context.Context, role string, limit time.Duration) {
	if err := os.WriteFile(p.path("running"), []byte(os.Getenv(RunningVariable)), 0o600); err != nil {
		panic(err)
	}
	part := selfupdate.New(selfupdate.Options{Part: selfupdate.Agent, Dir: p.path("update"), Limit: limit, Every: every,
		Workload: OfAgent(p.path("update"), os.Getenv(RunningVariable)), Log: zerolog.New(os.Stderr)})
	if role != "mute" {
		part.Reported()
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { part.Run(ctx) })
	for backoff.Sleep(ctx, every/10) == nil {
		named, _ := os.ReadFile(p.path("release"))
		if len(named) == 0 {
			continue
		}
		err := part.Update(ctx, selfupdate.Release{Key: "key of " + string(named), Images: p,
			Verified:   os.Getenv("HOST_TEST_UNSIGNED") == "",
			Components: []releases.Component{{Name: selfupdate.Component, Image: string(named)}}})
		wait := new(cells.UnavailableError)
		name, text := "result", fmt.Sprint(err)
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &wait):
			name = "waits"
		case err != nil:
			text = string(cells.CauseOf(err)) + ": " + text
		}
		if os.WriteFile(p.path("new"), []byte(text), 0o600) != nil || os.Rename(p.path("new"), p.path(name)) != nil {
			return
		}
		if name == "result" {
			_ = os.Remove(p.path("release"))
		}
	}
}

// place is a machine: a folder for the update, and one that the control plane serves images from.
type place struct {
	t   *testing.T
	dir string
}

func (p place) path(name string) string { return filepath.Join(p.dir, name) }

// RoundTrip asks the control plane, as the agent does.
func (p place) RoundTrip(r *http.Request) (*http.Response, error) {
	at, err := os.ReadFile(p.path("server"))
	if err != nil {
		return nil, err
	}
	to, err := url.Parse(string(at))
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = to.Scheme, to.Host
	return http.DefaultTransport.RoundTrip(r)
}

func newPlace(t *testing.T) place {
	t.Helper()
	p := place{t, t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("ns") != "vendor.example" || !strings.HasPrefix(r.URL.Path, "/v2/team/sluice/") {
			http.Error(w, "no release names this", http.StatusNotFound)
			return
		}
		http.ServeFile(w, r, p.path("content/"+filepath.Base(r.URL.Path)))
	}))
	t.Cleanup(server.Close)
	p.write("server", []byte(server.URL), 0o600)
	p.write("installed", p.program("good"), 0o700)
	return p
}

func (p place) write(name string, content []byte, mode os.FileMode) {
	p.t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(p.path(name)), 0o700), os.WriteFile(p.path(name), content, mode))
	if err != nil {
		p.t.Fatal(err)
	}
}

// program returns an agent that behaves in a way.
func (p place) program(role string) []byte {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, "#!/bin/sh\n%s=%s %s='%s' exec '%s' \"$@\"\n", roleVariable, role, placeVariable, p.dir,
		self)
}

func (p place) serve(content []byte) releases.Digest {
	p.t.Helper()
	digest := releases.DigestBytes(content)
	p.write("content/"+string(digest), content, 0o600)
	return digest
}

// layer returns a layer with files, which end in a slash if they are folders.
func layer(t *testing.T, files ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	archive := tar.NewWriter(packed)
	for _, h := range files {
		content := []byte(h.Linkname)
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(content))
		}
		if err := archive.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := archive.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(archive.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func plain(name string, content []byte) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Linkname: string(content)}
}

// image serves an image of layers for this machine, below an index, and returns its name.
func (p place) image(layers ...[]byte) string {
	p.t.Helper()
	type named struct {
		MediaType string            `json:"mediaType"`
		Digest    releases.Digest   `json:"digest"`
		Platform  map[string]string `json:"platform,omitempty"`
	}
	var all []named
	for _, l := range layers {
		all = append(all, named{"application/vnd.oci.image.layer.v1.tar+gzip", p.serve(l), nil})
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "layers": all})
	if err != nil {
		p.t.Fatal(err)
	}
	platform := func(arch string) map[string]string {
		return map[string]string{"os": runtime.GOOS, "architecture": arch}
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []named{
		{"", releases.DigestBytes(nil), platform("mips")}, {"", p.serve(manifest), platform(runtime.GOARCH)}}})
	if err != nil {
		p.t.Fatal(err)
	}
	return "vendor.example/team/sluice@" + string(p.serve(index))
}

// agent serves the image of an agent that behaves in a way.
func (p place) agent(role string) string {
	return p.image(layer(p.t, plain("usr/bin/sluice", p.program("never"))),
		layer(p.t, plain("etc/passwd", nil), plain("./usr/bin/sluice", p.program(role))))
}

// start starts the guard, and returns what kills it, which kills its agent too.
func (p place) start(more ...string) (kill func()) {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.OpenFile(p.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(self) //nolint:gosec,noctx // this program; killed in the end
	cmd.Env = append(append(os.Environ(), roleVariable+"=guard", placeVariable+"="+p.dir), more...)
	cmd.Stderr = log
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		p.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p.t.Cleanup(kill)
	return kill
}

// await waits until ok.
func (p place) await(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			log, _ := os.ReadFile(p.path("log"))
			record, _ := os.ReadFile(p.path("update/record.json"))
			waits, _ := os.ReadFile(p.path("waits"))
			p.t.Fatalf("it never came to this: %s; it waits: %s; the record is %s; the log:\n%s", what, waits, record,
				log)
		}
	}
}

// begin has the agent begin a release that names an image; result waits for what comes of that.
func (p place) begin(image string) {
	_ = os.Remove(p.path("result"))
	p.write("release", []byte(image), 0o600)
}

// result returns what came of the release, once the agent is done with it: the next one may be written then.
func (p place) result() (text string) {
	p.t.Helper()
	p.await("a result", func() bool {
		said, err := os.ReadFile(p.path("result"))
		text = string(said)
		_, begun := os.Stat(p.path("release"))
		return err == nil && errors.Is(begun, fs.ErrNotExist)
	})
	return text
}

// update replaces the agent, which has to succeed.
func (p place) update(image string) {
	p.t.Helper()
	p.begin(image)
	if got := p.result(); got != "<nil>" {
		p.t.Fatal(got)
	}
	p.wantRunning(image)
}

func (p place) wantRunning(image string) {
	p.t.Helper()
	p.await(image+" runs", func() bool {
		is, err := os.ReadFile(p.path("running"))
		return err == nil && string(is) == image
	})
}
