package plane

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/releases"
)

// A download over connections that are cut again and again continues by Range on the tar itself, however it began; no
// byte of the tar comes twice or from elsewhere.
func TestDownloadGoesOn(t *testing.T) {
	t.Parallel()
	tar := make([]byte, 300<<10)
	for i := range tar {
		tar[i] = byte(i*i>>3) ^ byte(i>>9)
	}
	packer, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := packer.EncodeAll(tar, nil)
	name := releases.DigestBytes(tar)
	for what, c := range map[string]struct {
		packed bool
		pieces int // bytes until a connection is cut
		parts  bool
		wrong  bool // the response has another range than requested
		fails  bool
	}{
		"plain":                  {pieces: 40 << 10, parts: true},
		"packed":                 {packed: true, pieces: 40 << 10, parts: true},
		"packed, cut at once":    {packed: true, pieces: 10 << 10, parts: true},
		"without parts":          {pieces: 100 << 10, fails: true}, // it never gets further
		"the part of someone":    {pieces: 100 << 10, parts: true, wrong: true, fails: true},
		"nothing is cut":         {packed: true, pieces: 1 << 20},
		"cut behind the last":    {pieces: 300 << 10, parts: true},
		"cut behind the last, z": {packed: true, pieces: len(packed) - 1, parts: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked = append(asked, r.Header.Get("Range"))
				mu.Unlock()
				if !c.parts {
					r.Header.Del("Range")
				} else if c.wrong && r.Header.Get("Range") != "" {
					r.Header.Set("Range", "bytes=7-")
				}
				body := tar
				w.Header().Set("ETag", `"`+string(name)+`"`)
				if c.packed && r.Header.Get("Range") == "" &&
					strings.Contains(r.Header.Get("Accept-Encoding"), "zstd") {
					body = packed
					w.Header().Set("Content-Encoding", "zstd")
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					w.Header().Set("ETag", `"`+string(name)+`-zstd"`)
				}
				http.ServeContent(&cuttingWriter{w, c.pieces}, r, "", time.Time{}, bytes.NewReader(body))
			}))
			defer server.Close()
			client, err := New(Options{Server: server.URL, Cell: "acme"})
			if err != nil {
				t.Fatal(err)
			}
			d, err := client.OpenContent(t.Context(), content.Releases, name, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			got, err := io.ReadAll(d)
			switch {
			case c.fails && (err == nil || d.ConnectionError() == nil):
				t.Errorf("%d bytes came, and %v: %v", len(got), err, asked)
			case !c.fails && err != nil:
				t.Errorf("after %d bytes: %v: %v", len(got), err, asked)
			case !c.fails && !bytes.Equal(got, tar):
				t.Errorf("%d bytes are others than the %d of the tar: %v", len(got), len(tar), asked)
			case !bytes.HasPrefix(tar, got):
				t.Error("what came is not the beginning of the tar")
			}
			if n := len(slices.Compact(asked)); c.parts && !c.wrong && n != len(asked) {
				t.Errorf("the same part was asked for twice: %v", asked)
			}
		})
	}
}

// cuttingWriter cuts the connection after left bytes.
type cuttingWriter struct {
	http.ResponseWriter
	left int
}

func (s *cuttingWriter) Write(b []byte) (int, error) {
	n, err := s.ResponseWriter.Write(b[:min(s.left, len(b))])
	if s.left -= n; s.left <= 0 || err != nil {
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}
