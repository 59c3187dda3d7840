package controlplane_test

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	d := digestOf("1.0.1")
	path := "/v1/releases/" + string(d)
	w, tar := s.request(t, "GET", path, "")
	if w.StatusCode != 200 || releases.DigestBytes([]byte(tar)) != d ||
		!strings.Contains(w.Header.Get("Cache-Control"), "immutable") ||
		!strings.Contains(w.Header.Get("Cache-Control"), "private") ||
		w.Header.Get("Content-Type") != "application/x-tar" {
		t.Fatalf("%s %v, %d bytes", w.Status, w.Header, len(tar))
	}
	etag := w.Header.Get("ETag")
	if w, _ := s.request(t, "GET", path, "", "If-None-Match", etag); w.StatusCode != 304 {
		t.Errorf("If-None-Match: %s", w.Status)
	}
	for _, accept := range []string{"zstd", "gzip, ZSTD;q=0.5", "br,zstd"} {
		w, small := s.request(t, "GET", path, "", "Accept-Encoding", accept)
		if w.Header.Get("Content-Encoding") != "zstd" || len(small) >= len(tar) || w.Header.Get("ETag") == etag ||
			w.Header.Get("Vary") != "Accept-Encoding" {
			t.Fatalf("Accept-Encoding %s: %v, %d bytes", accept, w.Header, len(small))
		}
		decoder, err := zstd.NewReader(strings.NewReader(small))
		if err != nil {
			t.Fatal(err)
		}
		if whole, err := io.ReadAll(decoder); err != nil || string(whole) != tar {
			t.Errorf("zstd comes to %d bytes (%v), not to the tar's %d", len(whole), err, len(tar))
		}
		decoder.Close()
	}
	for _, accept := range []string{"zstd;q=0", "zstd; q=0.0", "gzip", "zstdx", "zstd;q=bad"} {
		if w, _ := s.request(t, "GET", path, "", "Accept-Encoding", accept); w.Header.Get("Content-Encoding") != "" {
			t.Errorf("Accept-Encoding %s: %s", accept, w.Header.Get("Content-Encoding"))
		}
	}
	// A download resumes with the plain tar's bytes, whatever Accept-Encoding says.
	w, rest := s.request(t, "GET", path, "", "Range", "bytes=100-", "Accept-Encoding", "zstd", "If-Range", etag)
	if w.StatusCode != 206 || rest != tar[100:] || w.Header.Get("Content-Encoding") != "" {
		t.Errorf("range: %s %v, %d bytes", w.Status, w.Header, len(rest))
	}
	if w, whole := s.request(t, "GET", path, "", "Range", "bytes=100-", "If-Range", `"other"`); w.StatusCode != 200 ||
		whole != tar {
		t.Errorf("range of something else: %s, %d bytes", w.Status, len(whole))
	}
	if w, _ := s.request(t, "GET", path, "", "Range", "bytes=99999999-"); w.StatusCode != 416 {
		t.Errorf("range beyond the end: %s", w.Status)
	}
	if w, body := s.request(t, "HEAD", path, ""); w.StatusCode != 200 || body != "" ||
		w.ContentLength != int64(len(tar)) {
		t.Errorf("HEAD: %s, length %d", w.Status, w.ContentLength)
	}
}

// R34: a release is served only if it is offered to the cell.
func TestReleaseIsOffered(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	one, two, three := digestOf("1.0.1"), digestOf("1.0.2"), digestOf("1.0.3")
	moved := viewOf("1.0.2") // staging moved from 1.0.1 to 1.0.2, dedicated has 1.0.1
	staging, dedicated := moved.Desired.Channels["staging"], moved.Desired.Channels["dedicated"]
	old := viewOf("1.0.1").Desired.Channels["staging"].History
	staging.History = append(old, staging.History...)
	dedicated.History, dedicated.Effective = old, &old[0]
	s.setView(moved)
	for _, c := range []struct {
		name, cell string
		digest     releases.Digest
		status     int
	}{
		{"its channel's head", "acme", two, 200},
		{"an older head, to go back to", "acme", one, 200},
		{"a release that is nowhere", "acme", three, 404},
		{"its channel's head", "crow", one, 200},
		{"another channel's head", "crow", two, 404},
		{"a cell that is not there", "nobody", one, 404},
		{"any cell", "", two, 200},
		{"any cell, a release that is nowhere", "", three, 404},
	} {
		path := "/v1/releases/" + string(c.digest)
		if c.cell != "" {
			path += "?cell=" + c.cell
		}
		w, body := s.request(t, "GET", path, "")
		if w.StatusCode != c.status {
			t.Errorf("%s for %q: %s, not %d", c.name, c.cell, w.Status, c.status)
		}
		if c.status == 404 {
			wantProblem(t, w, body, 404, "offered")
		}
	}
	// A cell may download what it was granted, though its channel is another now.
	was := moved.Observed.Cells["acme"].Granted
	for name, c := range map[string]struct {
		state  plan.CellState
		status int
	}{
		"what it was granted":                 {plan.CellState{Granted: was}, 200},
		"what it was granted before it moved": {plan.CellState{Left: []releases.Digest{was.Digest}}, 200},
		"what it says, and was never granted": {plan.CellState{Running: was, Applying: was, Digest: was.Digest}, 404},
		"what it says, in the name of its head": {
			plan.CellState{Running: &cells.Assignment{Channel: "dedicated", Sequence: 3, Digest: was.Digest}}, 404},
	} {
		given := viewOf("1.0.2")
		given.Desired.Channels["dedicated"].History = old
		given.Observed.Cells["crow"] = &c.state
		s.setView(given)
		if w, _ := s.request(t, "GET", "/v1/releases/"+string(two)+"?cell=crow", ""); w.StatusCode != c.status {
			t.Errorf("%s: %s", name, w.Status)
		}
	}
}

// Invariant 5: bytes that do not match their digest are not served.
func TestDamagedReleaseStays(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	damaged := releaseFiles()
	damaged["releases/1.0.1/release.yaml"] = &fstest.MapFile{Data: []byte("version: 6.6.6\n"), Mode: 0o644}
	s.files = damaged
	path := "/v1/releases/" + string(digestOf("1.0.1"))
	w, body := s.request(t, "GET", path, "")
	wantProblem(t, w, body, 500, "log")
	if w.Header.Get("Cache-Control") != "" || w.Header.Get("ETag") != "" {
		t.Errorf("an error that caches keep: %v", w.Header)
	}
	if !strings.Contains(s.log.String(), "mirror") {
		t.Errorf("the log says nothing: %s", s.log.String())
	}
	s.files = releaseFiles()
	if w, _ := s.request(t, "GET", path, ""); w.StatusCode != 200 {
		t.Errorf("once it is mended: %s", w.Status)
	}
}

// countingFS counts how often a release is opened.
type countingFS struct {
	fs.FS
	mu    sync.Mutex
	opens int
}

func (c *countingFS) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "release.yaml") {
		c.mu.Lock()
		c.opens++
		c.mu.Unlock()
	}
	return c.FS.Open(name)
}

func TestReleaseIsPackedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	files := &countingFS{FS: releaseFiles()}
	s.files = files
	path := "/v1/releases/" + string(digestOf("1.0.1"))
	s.request(t, "GET", path, "")
	once := files.opens
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { s.request(t, "GET", path, "", "Accept-Encoding", "zstd") })
	}
	wg.Wait()
	if once == 0 || files.opens != once {
		t.Errorf("opened %d times for the first, %d times in all", once, files.opens)
	}
}

// R34: one cell's concurrent downloads are bounded, slow ones share a copy and take no place that others need, and
// other cells can download.
func TestParallelDownloadsAreBounded(t *testing.T) {
	t.Parallel()
	f, paths := newFleetWithLargeContent(t, 4, func(o *controlplane.Options) {
		o.Limits.Cells.Downloads, o.Limits.Cells.InFlight = 2, 1
	})
	for i, path := range paths {
		for range 2 { // their bodies are not read
			if w := f.dial(t, i).get(t, path, ""); w.StatusCode != 200 {
				t.Fatal(path, w.Status)
			}
		}
		if w := f.dial(t, i).get(t, path, ""); w.StatusCode != 429 || w.Header.Get("Retry-After") == "" {
			t.Errorf("%s, the third: %s", path, w.Status)
		}
		if w := f.dial(t, i).report(t, cellName(i)); w.StatusCode != 200 {
			t.Errorf("%s, a report meanwhile: %s", path, w.Status)
		}
		w := f.dial(t, i+2).get(t, path, "")
		body, err := io.ReadAll(w.Body)
		if err != nil || !strings.HasSuffix(path, string(releases.DigestBytes(body))) {
			t.Errorf("%s, another cell: %s, %d bytes (%v)", path, w.Status, len(body), err)
		}
	}
}

// R29: the downloads of a revoked cell end, also those that began before.
func TestR29RevocationEndsDownloads(t *testing.T) {
	t.Parallel()
	f, paths := newFleetWithLargeContent(t, 2, nil)
	for i, path := range paths {
		w := f.dial(t, i).get(t, path, "")
		f.members.revoke(cellName(i))
		if n, err := io.Copy(io.Discard, w.Body); w.StatusCode != 200 || err == nil {
			t.Errorf("%s: %s, and all %d bytes came", path, w.Status, n)
		}
	}
}

const largeContent = 16 << 20 // more than the kernel buffers for a client that does not read

// newFleetWithLargeContent returns n cells that are offered a large release and a large bundle, and the paths of both.
func newFleetWithLargeContent(t *testing.T, n int, change func(*controlplane.Options)) (f *fleet, paths []string) {
	t.Helper()
	big := releaseFiles()
	noise := make([]byte, largeContent)
	for i := range noise {
		noise[i] = byte(i * i >> 7 * 31)
	}
	big["releases/1.0.1/noise"] = &fstest.MapFile{Data: noise, Mode: 0o644}
	release, err := releases.DigestOf(big, "releases/1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	f = newFleet(t, n, change)
	f.files = big
	v := fleetView(n, "1.0.1")
	head := *v.Desired.Channels["staging"].Effective
	head.Digest = release
	v.Desired.Channels["staging"].Effective, v.Desired.Channels["staging"].History = &head, []plan.EffectiveHead{head}
	bundles := map[string]string{}
	for i := range n {
		bundles[cellName(i)] = string(noise)
	}
	v.Flags = viewWithFlags(1, bundles, nil).Flags
	f.setView(v)
	return f, []string{"/v1/releases/" + string(release), bundlePath(string(noise))}
}

// R34: one cell's slow exports keep no other cell's out.
func TestSlowExportsOfOneCell(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, func(o *controlplane.Options) { o.Exports = exports.New(o.Records, nil) })
	send := func(i int, rest string) int {
		c := f.dial(t, i)
		fmt.Fprint(c, "POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"+
			"Content-Encoding: zstd\r\nContent-Length: 1\r\n"+rest)
		w, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.StatusCode
	}
	for n := range 9 { // the first is asked for its body, which never comes
		want := map[bool]int{true: 100, false: 429}[n == 0]
		if status := send(0, "Expect: 100-continue\r\n\r\n"); status != want {
			t.Errorf("batch %d: %d, not %d", n, status, want)
		}
	}
	if status := send(1, "\r\nx"); status != 400 { // it is read, and is no batch
		t.Errorf("another cell: %d", status)
	}
}
