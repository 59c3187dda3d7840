package plane

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/releases"
)

// compressWithWindow compresses what write writes, without holding it in memory.
func compressWithWindow(t *testing.T, window int, write func(io.Writer) error) []byte {
	t.Helper()
	var packed bytes.Buffer
	encoder, err := zstd.NewWriter(&packed, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err == nil {
		err = write(encoder)
	}
	if err == nil {
		err = encoder.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// tarOf returns a canonical tar of files of 1 MiB.
func tarOf(t *testing.T, count int, fill func([]byte)) []byte {
	t.Helper()
	files := releases.Files{}
	for i := range count {
		data := make([]byte, 1<<20)
		fill(data)
		files[fmt.Sprintf("file-%03d", i)] = releases.File{Data: data, Mode: 0o644}
	}
	var tar bytes.Buffer
	if err := files.Pack(&tar); err != nil {
		t.Fatal(err)
	}
	return tar.Bytes()
}

// A download, the largest that is allowed as well as any bomb, keeps to the memory that docs/cell.md promises: what all
// of it allocates is counted, whether or not it is free again.
func TestDownloadKeepsToItsMemory(t *testing.T) {
	const limit, most = 64 << 20, 20 << 20
	random := rand.NewChaCha8([32]byte{})
	noise := tarOf(t, 60, func(b []byte) { _, _ = random.Read(b) })
	zeros := tarOf(t, 60, func([]byte) {})
	large := tarOf(t, 200, func([]byte) {})
	whole := func(tar []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(tar); return err }
	}
	endless := func(w io.Writer) error { // one entry's header again and again
		for range 1 << 18 {
			if _, err := w.Write(zeros[:512]); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range []struct {
		name   string
		body   []byte
		zstd   bool
		digest releases.Digest
		good   bool
	}{
		{"as large as allowed", noise, false, releases.DigestBytes(noise), true},
		{"as large as allowed, compressed", compressWithWindow(t, 8<<20, whole(zeros)), true,
			releases.DigestBytes(zeros), true},
		{"larger than allowed, compressed", compressWithWindow(t, 8<<20, whole(large)), true,
			releases.DigestBytes(large), false},
		{"a window that takes memory", compressWithWindow(t, 64<<20, whole(zeros)), true, releases.DigestBytes(zeros),
			false},
		{"headers without end", compressWithWindow(t, 8<<20, endless), true, releases.DigestBytes(nil), false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.zstd {
				w.Header().Set("Content-Encoding", "zstd")
			}
			_, _ = io.Copy(w, bytes.NewReader(c.body)) // the client may have enough
		}))
		client, err := New(Options{Server: server.URL, Cell: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := content.NewCache(t.TempDir(), client, limit).Open(t.Context(), c.digest)
		runtime.ReadMemStats(&after)
		if c.good != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			_ = f.Close()
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s: %d MiB were allocated", c.name, used>>20)
		}
		server.Close()
	}
}
