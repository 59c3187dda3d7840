package releases_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// hostileTar makes a tar with archive/tar, as an attacker would.
func hostileTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packFiles(t testing.TB, files releases.Files) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := files.Pack(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }

// Faults 28 and 31: Unpack returns no files of a bundle that is not a release.
func TestUnpackRefuses(t *testing.T) {
	good := packFiles(t, releases.Files{"a": {Data: []byte("1"), Mode: 0o644}})
	edit := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	small := releases.Limits{Files: 2, FileBytes: 1000, TotalBytes: 1500, Depth: 3, PathBytes: 30}
	for _, test := range []struct {
		name string
		in   []byte
		want string
	}{
		{"zip-slip", hostileTar(t, file("../../etc/passwd")), `"../../etc/passwd": the path leads out of the release`},
		{"zip-slip within", hostileTar(t, file("a/../../b")), "the path leads out of the release"},
		{"zip-slip by pax", packFiles(t, releases.Files{"ü/../../b": {Mode: 0o644}}),
			"the path leads out of the release"},
		{"absolute path", hostileTar(t, file("/etc/passwd")), "the path is absolute"},
		{"dots", hostileTar(t, file("./a")), "not in its shortest form"},
		{"double slash", hostileTar(t, file("a//b")), "not in its shortest form"},
		{"backslash", hostileTar(t, file(`..\a`)), "backslash"},
		{"symlink", hostileTar(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc"}), "it is a link"},
		{"hard link", hostileTar(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}), "it is a link"},
		{"device", hostileTar(t, tar.Header{Typeflag: tar.TypeChar, Name: "a", Devmajor: 1, Devminor: 3}),
			"it is a device"},
		{"block device", hostileTar(t, tar.Header{Typeflag: tar.TypeBlock, Name: "a"}), "it is a device"},
		{"pipe", hostileTar(t, tar.Header{Typeflag: tar.TypeFifo, Name: "a"}), "a pipe"},
		{"folder", hostileTar(t, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}), "a folder entry"},
		{"GNU long name",
			hostileTar(t, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 200), Format: tar.FormatGNU}),
			"kind 'L'"},
		{"pax with more than a path", hostileTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Format: tar.FormatPAX,
			PAXRecords: map[string]string{"X.y": "z"}}), "canonical"},
		{"global pax header",
			hostileTar(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "b"}}),
			"kind 'g'"},
		{"duplicate", hostileTar(t, file("a"), file("a")), ""},
		{"duplicate, canonical", repeatEntry(good), "it is there twice"},
		{"differs by case", packFiles(t, releases.Files{"A": {Mode: 0o644}, "a": {Mode: 0o644}}),
			"differs from A only by case"},
		{"file and folder", packFiles(t, releases.Files{"a": {Mode: 0o644}, "a/b": {Mode: 0o644}}),
			"both a file and a folder"},
		{"too many files", packFiles(t, releases.Files{"a": {Mode: 0o644}, "b": {Mode: 0o644}, "c": {Mode: 0o644}}),
			"more than 2 files"},
		{"file too large", packFiles(t, releases.Files{"a": {Data: make([]byte, 1001), Mode: 0o644}}),
			"larger than 1000 bytes"},
		{"all too large", packFiles(t, releases.Files{"a": {Data: make([]byte, 900), Mode: 0o644},
			"b": {Data: make([]byte, 900), Mode: 0o644}}), "the release is larger than 1500 bytes"},
		{"too deep", packFiles(t, releases.Files{"a/b/c/d": {Mode: 0o644}}), "more than 3 folders"},
		{"path too long", packFiles(t, releases.Files{strings.Repeat("n", 31): {Mode: 0o644}}), "longer than 30 bytes"},
		{"odd mode", hostileTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o4755}), "canonical"},
		{"owner", hostileTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 1000}), "canonical"},
		{"order", append(bytes.Clone(packFiles(t, releases.Files{"b": {Mode: 0o644}})[:512]), good...), "canonical"},
		{"padding", edit(700, 'x'), "canonical"},
		{"checksum", edit(155, 'x'), "canonical"},
		{"trailing bytes", append(bytes.Clone(good), 0), "canonical"},
		{"one block of zeros", good[:len(good)-512], "ends too early"},
		{"cut in the content", good[:512+1], "ends too early"},
		{"cut in a header", good[:100], "ends too early"},
		{"nothing", nil, "ends too early"},
		{"noise", bytes.Repeat([]byte("noise!"), 200), "kind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files, d, err := releases.Unpack(bytes.NewReader(test.in), small)
			if err == nil || files != nil || d != "" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v: want %q", err, test.want)
			}
		})
	}
}

// repeatEntry returns a tar with the entry of a one-entry tar twice.
func repeatEntry(one []byte) []byte { return append(bytes.Clone(one[:1024]), one...) }

// Fault 31: Unpack reads an endless bundle only up to the limits.
func TestUnpackStopsAtItsLimits(t *testing.T) {
	header := packFiles(t, releases.Files{"a": {Data: make([]byte, 1<<20), Mode: 0o644}})[:512]
	for name, r := range map[string]io.Reader{
		"zeros without end": endless{},
		"a large file": io.MultiReader(bytes.NewReader(packFiles(t,
			releases.Files{"a": {Data: make([]byte, 64<<10), Mode: 0o644}})), endless{}),
		"a file that is not there": io.MultiReader(bytes.NewReader(header), errReader{}),
		"a million files":          &endlessFiles{},
	} {
		counted := &countingReader{r: r}
		_, _, err := releases.Unpack(counted, releases.Limits{Files: 100, FileBytes: 1 << 20, TotalBytes: 2 << 20})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if counted.n > 4<<20 {
			t.Errorf("%s: read %d bytes", name, counted.n)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// endlessFiles is an endless canonical tar of empty files.
type endlessFiles struct {
	n    int
	left []byte
}

func (m *endlessFiles) Read(b []byte) (int, error) {
	if len(m.left) == 0 {
		var one bytes.Buffer
		_ = releases.Files{fmt.Sprintf("%09d", m.n): {Mode: 0o644}}.Pack(&one)
		m.left = one.Bytes()[:512]
		m.n++
	}
	n := copy(b, m.left)
	m.left = m.left[n:]
	return n, nil
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func FuzzUnpack(f *testing.F) {
	f.Add(packFiles(f, trickyFiles()))
	f.Add(packFiles(f, releases.Files{"a": {Data: []byte("1"), Mode: 0o755}}))
	f.Add(hostileTar(f, file("../a")))
	f.Add(hostileTar(f, tar.Header{Typeflag: tar.TypeReg, Name: "ü", Format: tar.FormatPAX}))
	f.Fuzz(func(t *testing.T, in []byte) {
		files, d, err := releases.Unpack(bytes.NewReader(in), releases.Limits{Files: 50, TotalBytes: 1 << 20})
		if err != nil {
			return
		}
		// An accepted bundle is exactly what Pack writes of its files, and can be a folder.
		if again := packFiles(t, files); !bytes.Equal(again, in) || releases.DigestBytes(in) != d {
			t.Error("accepted something that is not canonical")
		}
		if got, err := releases.DigestOf(mapFS("r", files), "r"); len(files) > 0 && (got != d || err != nil) &&
			!strings.Contains(err.Error(), "LFS") {
			t.Errorf("as a folder: %s, want %s (%v)", got, d, err)
		}
	})
}
