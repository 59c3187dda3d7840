package releases

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// File is one file of a release in memory.
type File struct {
	Data []byte
	Mode fs.FileMode // 0o644 or 0o755
}

// Files is a release in memory, by slash-separated path relative to its folder.
type Files map[string]File

// Unpack reads a canonical tar from an untrusted source and returns its files and digest. It refuses every byte that
// Pack would not write, so that equal files have equal bytes, and content beyond the limits before reading it. Nothing
// is written to disk. The caller compares the digest with the expected one, and bounds the time that r may take.
func Unpack(r io.Reader, limits Limits) (Files, Digest, error) {
	files := Files{}
	digest, err := unpack(r, limits, files)
	if err != nil {
		return nil, "", err
	}
	return files, digest, nil
}

// DigestOfTar reads a canonical tar as Unpack does, and returns the digest alone. It holds none of the files in memory.
func DigestOfTar(r io.Reader, limits Limits) (Digest, error) { return unpack(r, limits, nil) }

// unpack adds the files to files, unless that is nil.
func unpack(r io.Reader, limits Limits, files Files) (Digest, error) {
	h := sha256.New()
	u := unpacker{in: bufio.NewReaderSize(r, 64<<10), hash: h, guard: newGuard(limits), files: files}
	for {
		more, err := u.readEntry()
		if err != nil {
			if u.name != "" {
				err = fmt.Errorf("unpack the release: %q: %w", u.name, err)
			} else {
				err = fmt.Errorf("unpack the release: %w", err)
			}
			return "", err
		}
		if !more {
			return DigestFromSum(h.Sum(nil)), nil
		}
	}
}

type unpacker struct {
	in       *bufio.Reader
	hash     hash.Hash
	guard    *guard
	files    Files  // nil: the files are only checked
	name     string // of the entry being read, for messages
	lastName string
}

var (
	errNotCanonical = errors.New("it is not in the canonical form of a release")
	errTruncated    = errors.New("it ends too early: fetch it again")
)

// readEntry reads one file. more is false at the end of the tar.
func (u *unpacker) readEntry() (more bool, err error) {
	h, err := u.readBlock()
	if err != nil {
		return false, err
	}
	if h == ([blockSize]byte{}) {
		return false, u.readEnd()
	}
	name, pax := headerField(h[0:100]), false
	u.name = name
	if h[156] == 'x' {
		if name, err = u.readPaxName(h); err != nil {
			return false, err
		}
		u.name, pax = name, true
		if h, err = u.readBlock(); err != nil {
			return false, err
		}
	}
	mode, size, err := u.checkHeader(h, name, pax)
	if err != nil {
		return false, err
	}
	u.lastName = name
	if u.files == nil {
		return true, u.copyContent(io.Discard, size)
	}
	data, err := u.readContent(size)
	u.files[name] = File{data, mode}
	return true, err
}

// checkHeader checks a header: first the mistakes that deserve an explanation, then the exact bytes.
func (u *unpacker) checkHeader(h [blockSize]byte, name string, pax bool) (fs.FileMode, int64, error) {
	switch h[156] {
	case '0', 0:
	case '1', '2':
		return 0, 0, errors.New("it is a link: a release holds only files")
	case '3', '4', '6':
		return 0, 0, errors.New("it is a device or a pipe: a release holds only files")
	case '5':
		return 0, 0, errors.New("it is a folder entry: a release holds only files")
	default:
		return 0, 0, fmt.Errorf("it is an entry of kind %q: a release holds only files", h[156])
	}
	size, err := strconv.ParseInt(headerField(h[124:136]), 8, 64)
	if err != nil {
		return 0, 0, errNotCanonical
	}
	if err := u.guard.admitFile(name, size); err != nil {
		return 0, 0, err
	}
	mode := fs.FileMode(0o644)
	if headerField(h[100:108]) == "0000755" {
		mode = 0o755
	}
	short := name
	if pax {
		short = paxName(name)
	}
	if h != ustarHeader(short, mode, size, '0') || pax != needsPax(name) || u.lastName != "" && name <= u.lastName {
		return 0, 0, errNotCanonical
	}
	return mode, size, nil
}

// readPaxName reads the extended header that h announces; the canonical form allows one record, the path.
func (u *unpacker) readPaxName(h [blockSize]byte) (string, error) {
	size, err := strconv.ParseInt(headerField(h[124:136]), 8, 64)
	if err != nil || size <= 0 || size > maxPax || h != ustarHeader("path", 0o644, size, 'x') {
		return "", errNotCanonical
	}
	data, err := u.readContent(size)
	if err != nil {
		return "", err
	}
	_, name, ok := strings.Cut(string(data), " path=")
	name = strings.TrimSuffix(name, "\n")
	if !ok || paxRecord(name) != string(data) {
		return "", errNotCanonical
	}
	return name, nil
}

// readEnd expects the second block of zeros, and then the end of the input.
func (u *unpacker) readEnd() error {
	u.name = ""
	h, err := u.readBlock()
	if err != nil {
		return err
	}
	if _, err := u.in.ReadByte(); h != ([blockSize]byte{}) || err == nil {
		return errNotCanonical
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (u *unpacker) readBlock() (b [blockSize]byte, err error) {
	if _, err := io.ReadFull(u.in, b[:]); err != nil {
		return b, truncationError(err)
	}
	u.hash.Write(b[:])
	return b, nil
}

// readContent reads size bytes and their padding. Memory grows with the bytes received, not with the announced size.
func (u *unpacker) readContent(size int64) ([]byte, error) {
	var data bytes.Buffer
	if size <= 64<<10 {
		data.Grow(int(size))
	}
	err := u.copyContent(&data, size)
	return data.Bytes(), err
}

// copyContent copies size bytes to w, and reads their padding.
func (u *unpacker) copyContent(w io.Writer, size int64) error {
	if _, err := io.CopyN(io.MultiWriter(w, u.hash), u.in, size); err != nil {
		return truncationError(err)
	}
	var pad, zeros [blockSize]byte
	n := paddingSize(int(size))
	if _, err := io.ReadFull(u.in, pad[:n]); err != nil {
		return truncationError(err)
	}
	if pad != zeros {
		return errNotCanonical
	}
	u.hash.Write(pad[:n])
	return nil
}

func truncationError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

// headerField returns a header field up to its NUL.
func headerField(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// Pack writes the canonical tar of f, which Unpack reads back. It validates nothing.
func (f Files) Pack(w io.Writer) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if err := writeTarEntry(w, name, f[name].Mode, f[name].Data); err != nil {
			return fmt.Errorf("pack the release: %w", err)
		}
	}
	if err := writeTarEnd(w); err != nil {
		return fmt.Errorf("pack the release: %w", err)
	}
	return nil
}

// ScanKustomizations does for f what ScanKustomization does for a folder. Faults name paths in the release.
func (f Files) ScanKustomizations() []Fault {
	t := releaseTree{inMemory: f, dir: "."}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		t.files = append(t.files, file{name, int64(len(f[name].Data)), f[name].Mode})
	}
	return manifest.Sort(t.scanKustomizations())
}
