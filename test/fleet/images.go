package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/test/debian"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

// imagesGroup runs only if it is named: it installs Debian's registry, and moves gigabytes.
const imagesGroup = "images"

const (
	imageCells     = 100
	imageBytes     = 100 << 20
	upstreamDelay  = 50 * time.Millisecond // before the first byte of a blob, as a registry in a cloud takes
	pullsAtOnce    = 8
	slowPullRate   = 1 << 20 // bytes a second, of those that show what a pull takes of memory
	imageVersion   = "1.1.0"
	imageReference = "app"
)

// imageUpstream is the vendor's registry.
type imageUpstream struct {
	*httptest.Server
	host            string
	manifest, layer string // digests
	sent            atomic.Int64
}

// countingWriter counts the bytes of a body.
type countingWriter struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (w countingWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.sent.Add(int64(n))
	return n, err
}

func startUpstream() (*imageUpstream, error) {
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	u := &imageUpstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			time.Sleep(upstreamDelay)
			w = countingWriter{w, &u.sent}
		}
		next.ServeHTTP(w, r)
	}))
	u.host = strings.TrimPrefix(u.URL, "http://")
	image, err := random.Image(imageBytes, 1)
	if err != nil {
		return u, err
	}
	to, err := name.NewTag(u.host+"/"+imageReference+":latest", name.Insecure)
	if err == nil {
		err = remote.Write(to, image)
	}
	var digest v1.Hash
	if err == nil {
		digest, err = image.Digest()
	}
	if err != nil {
		return u, err
	}
	m, err := image.Manifest()
	if err != nil {
		return u, err
	}
	u.manifest, u.layer = digest.String(), m.Layers[0].Digest.String()
	return u, nil
}

// puller pulls from one place.
type puller struct {
	base   string // https://HOST:PORT
	path   string // of the blob
	client func(i int) *http.Client
}

// pulled is what one pull took.
type pulled struct {
	first, whole time.Duration
	bytes        int64
}

// pull reads a blob; rate 0 is as fast as it comes.
func (p puller) pull(ctx context.Context, i int, rate int64) (got pulled, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+p.path, nil)
	if err != nil {
		return got, err
	}
	begun := time.Now()
	answer, err := p.client(i).Do(r)
	if err != nil {
		return got, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return got, fmt.Errorf("%s%s: %s", p.base, p.path, answer.Status)
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := answer.Body.Read(buffer)
		if got.bytes == 0 && n > 0 {
			got.first = time.Since(begun)
		}
		got.bytes += int64(n)
		if errors.Is(err, io.EOF) {
			got.whole = time.Since(begun)
			return got, nil
		}
		if err != nil {
			return got, err
		}
		if rate > 0 {
			sleep(ctx, time.Duration(n)*time.Second/time.Duration(rate))
		}
	}
}

// pullAll has n clients pull at once, and returns the times to their first bytes, sorted.
func (p puller) pullAll(ctx context.Context, n int) (firsts []time.Duration, rate float64, err error) {
	all, errs := make([]pulled, n), make([]error, n)
	begun := time.Now()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { all[i], errs[i] = p.pull(ctx, i, 0) })
	}
	group.Wait()
	var bytes int64
	for _, one := range all {
		firsts, bytes = append(firsts, one.first), bytes+one.bytes
	}
	slices.Sort(firsts)
	return firsts, float64(bytes) / time.Since(begun).Seconds(), errors.Join(errs...)
}

// measureImages measures pulls of one large blob through the control plane, beside a bare server with the same TLS and
// Debian's registry as a pull-through cache with TLS of its own.
func (b *bench) measureImages(ctx context.Context) (rows []figures.Row, err error) {
	u, err := startUpstream()
	if err != nil {
		return nil, err
	}
	defer u.Close()
	f, err := b.prepareFleet(ctx, imageCells, "")
	if err != nil {
		return nil, err
	}
	defer func() { f.stop() }()
	if err := f.serveImages(ctx, b.dir, u); err != nil {
		return nil, err
	}
	dialer, err := swarm.NewDialer(f.controlPlane(), swarm.Members(cellPrefix, imageCells, keySeed))
	if err != nil {
		return nil, err
	}
	path := "/v2/" + imageReference + "/blobs/" + u.layer
	ours := cellPuller(f.cellAddress, path, dialer)
	cold, err := b.measureCold(ctx, u, ours)
	if err != nil {
		return nil, err
	}
	bare, err := startBareFile(ctx, filepath.Join(b.dir, "blob"))
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	peer, err := b.startRegistry(ctx, u)
	if err != nil {
		return nil, err
	}
	defer peer.stop()
	warm, err := measureWarm(ctx, b.rounds, ours, bare.puller, peer.puller)
	if err != nil {
		return nil, err
	}
	f.stop() // what it has used so far says nothing of slow pulls
	if err := f.start(ctx); err != nil {
		return nil, err
	}
	memory, err := measureMemory(ctx, f, ours)
	if err != nil {
		return nil, err
	}
	reports, err := b.measureReportsBesidePulls(ctx, f, dialer, path)
	return slices.Concat(cold, warm, memory, reports), err
}

// serveImages starts the server anew, which serves images then, and cuts a release that names the image.
func (f *fleet) serveImages(ctx context.Context, dir string, u *imageUpstream) error {
	f.stop()
	f.registries = filepath.Join(dir, "registries.json")
	if err := os.WriteFile(f.registries, fmt.Appendf(nil, `{"auths": {%q: {}}}`, u.host), 0o600); err != nil {
		return err
	}
	if err := f.start(ctx); err != nil {
		return err
	}
	files := swarm.ReleaseFiles(imageVersion, 3)
	files["releases/"+imageVersion+"/images.txt"] = u.host + "/" + imageReference + "@" + u.manifest + "\n"
	if _, err := f.repo.Commit(ctx, "cut "+imageVersion, files); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < time.Minute; sleep(ctx, 50*time.Millisecond) {
		var s struct {
			Channels []struct {
				Release string `json:"release"`
			} `json:"channels"`
		}
		if err := f.readStatus(ctx, &s); err != nil {
			return err
		}
		if len(s.Channels) == 1 && s.Channels[0].Release == imageVersion {
			return nil
		}
	}
	return errors.New("the release with the image did not become the channel's head")
}

// measureCold pulls a blob that is not here with all cells at once. The control plane fetches what heads name ahead of
// time, so the blob is removed first.
func (b *bench) measureCold(ctx context.Context, u *imageUpstream, ours puller) ([]figures.Row, error) {
	direct := puller{u.URL, ours.path, func(int) *http.Client { return http.DefaultClient }}
	var alone, through []time.Duration
	for range b.rounds {
		got, err := direct.pull(ctx, 0, 0)
		if err != nil {
			return nil, err
		}
		alone = append(alone, got.first)
	}
	if _, err := ours.pull(ctx, 0, 0); err != nil { // the manifest is known then, as to a client that pulls an image
		return nil, err
	}
	u.sent.Store(0)
	for range b.rounds {
		if err := b.forgetBlob(u); err != nil {
			return nil, err
		}
		firsts, _, err := ours.pullAll(ctx, imageCells)
		if err != nil {
			return nil, err
		}
		through = append(through, firsts[0])
	}
	fetched := float64(u.sent.Load()) / float64(b.rounds) / imageBytes
	return []figures.Row{
		{What: fmt.Sprintf("%d cold cells pull one blob of 100 MB: bytes from the registry", imageCells),
			Got: fmt.Sprintf("%.3f x", fetched), Base: "the blob once", Ratio: fetched, Limit: 1.001},
		figures.TimeRow("  the first byte, cold, of the first cell", figures.Median(through), "direct",
			figures.Median(alone), 1.2),
	}, nil
}

// forgetBlob removes the blob from the server's disk, which then has to fetch it again.
func (b *bench) forgetBlob(u *imageUpstream) error {
	return os.Remove(filepath.Join(b.dir, fmt.Sprintf("fleet-%d", b.fleetCount), "data", "images",
		strings.TrimPrefix(u.layer, "sha256:")))
}

// measureWarm alternates pulls of kept content.
func measureWarm(ctx context.Context, rounds int, ours, bare, peer puller) ([]figures.Row, error) {
	rates := map[string][]float64{}
	for range rounds {
		for what, p := range map[string]puller{"ours": ours, "bare": bare, "peer": peer} {
			_, rate, err := p.pullAll(ctx, pullsAtOnce)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
			rates[what] = append(rates[what], rate/1e6)
		}
	}
	got := figures.Median(rates["ours"])
	row := func(against string, base, limit float64) figures.Row {
		return figures.Row{What: fmt.Sprintf("%d warm pulls at once: MB a second", pullsAtOnce),
			Got: fmt.Sprintf("%.0f", got), Base: fmt.Sprintf("%s %.0f", against, base), Ratio: got / base, Limit: limit,
			Least: true}
	}
	return []figures.Row{row("http.ServeContent, same TLS", figures.Median(rates["bare"]), 0.8),
		row("docker-registry, with TLS", figures.Median(rates["peer"]), 1.5)}, nil
}

// measureMemory finds what slow pulls take of memory.
func measureMemory(ctx context.Context, f *fleet, ours puller) ([]figures.Row, error) {
	pid := f.cmd.Process.Pid
	before, err := settledMemory(ctx, pid)
	if err != nil {
		return nil, err
	}
	pulling, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for i := range imageCells {
		group.Go(func() { _, _ = ours.pull(pulling, i, slowPullRate) }) // ends with pulling
	}
	most := int64(0)
	for begun := time.Now(); time.Since(begun) < 10*time.Second; sleep(ctx, 100*time.Millisecond) {
		usage, err := readUsage(pid)
		if err != nil {
			stop()
			return nil, err
		}
		most = max(most, usage.rss)
	}
	stop()
	group.Wait()
	each := (most - before) / imageCells
	return []figures.Row{{What: fmt.Sprintf("memory of each of %d slow pulls", imageCells),
		Got: fmt.Sprintf("%d KiB", each>>10), Base: "limit 256 KiB", Ratio: float64(each) / (256 << 10), Limit: 1}}, nil
}

// otherServer is a baseline that serves the blob.
type otherServer struct {
	puller
	stop func()
}

// startBareFile serves a file of the blob's size by http.ServeContent over TLS 1.3, in a process of its own.
func startBareFile(ctx context.Context, file string) (*otherServer, error) {
	content := make([]byte, imageBytes)
	if _, err := rand.Read(content); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	c, err := startChild(ctx, "bare")
	if err != nil {
		return nil, err
	}
	var address string
	if err := c.call("serveFile", file, &address); err != nil {
		c.stop()
		return nil, err
	}
	return &otherServer{puller{"https://" + address, "/", anyCertificate()}, c.stop}, nil
}

// serveFile serves a file, and returns where.
func (b *bareServer) serveFile(file string) (any, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	config := b.config.Clone()
	config.ClientAuth = tls.NoClientCert
	s := &http.Server{ReadHeaderTimeout: time.Minute, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(file)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			defer func() { _ = f.Close() }()
			http.ServeContent(w, r, "", time.Time{}, f)
		})}
	go func() { _ = s.ServeTLS(l, "", "") }() // until the process ends
	return l.Addr().String(), nil
}

// anyCertificate returns one client that looks at no certificate.
func anyCertificate() func(int) *http.Client {
	c := &http.Client{Transport: &http.Transport{DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}} //nolint:gosec // on loopback
	return func(int) *http.Client { return c }
}

// startRegistry starts Debian's registry as a pull-through cache, and fills it.
func (b *bench) startRegistry(ctx context.Context, u *imageUpstream) (*otherServer, error) {
	if err := debian.Program(ctx, "docker-registry", "docker-registry"); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "registry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := writeCertificate(dir); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %s}}\nproxy: {remoteurl: %q}\n"+
		"http: {addr: %q, tls: {certificate: %s, key: %s}}\n", dir, u.URL, address, filepath.Join(dir, "cert.pem"),
		filepath.Join(dir, "key.pem"))
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", file)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &otherServer{puller{"https://" + address, "/v2/" + imageReference + "/blobs/" + u.layer, anyCertificate()},
		func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}}
	for begun := time.Now(); ; sleep(ctx, 200*time.Millisecond) {
		if _, err = s.pull(ctx, 0, 0); err == nil {
			return s, nil
		}
		if time.Since(begun) > 30*time.Second {
			s.stop()
			return nil, fmt.Errorf("docker-registry does not serve the blob: %w", err)
		}
	}
}

func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := identity.SelfSignedCertificate(rand.Reader, key, "registry", time.Now())
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
