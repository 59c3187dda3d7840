package releases

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"strconv"
)

// The canonical tar of a release depends on the release's files only, for ever, on every machine; its SHA-256 is the
// release's digest. The format is the pax interchange format of POSIX.1-2001, restricted:
//
//   - one entry for each regular file and none for folders, in bytewise order of the paths;
//
//   - paths relative to the release's folder, slash-separated, UTF-8. A path of at most 100 ASCII bytes stands in the
//     ustar header's name; any other path has a pax header before the entry, with the single record "path";
//
//   - mode 0644, or 0755 if the owner may execute the file: the two modes that git stores;
//
//   - times, owners, groups, devices: zero or empty; content padded with zeros to 512 bytes;
//
//   - two blocks of zeros at the end, and nothing after them.
//
// archive/tar is not used here, so that no release of Go can change the format.
//
// A worktree has the same digest as the commit that `git add` would make of the worktree, if .gitattributes keeps git
// from changing bytes (init writes `releases/** -text -filter -ident`) and no file is ignored. Where the file system
// has no executable bit (core.fileMode false), only the commit knows the modes: use the digest of the commit there.

const (
	blockSize = 512
	maxName   = 100 // bytes of a name in a ustar header
	// maxPax bounds a pax header's size in bytes: the longest path that any limits allow, and its frame.
	maxPax = 64 << 10
)

// Pack writes the canonical tar of the release in dir. If a file can't be part of a release, Pack returns an error that
// names the file and the reason, and the bytes written are useless.
func Pack(w io.Writer, fsys fs.FS, dir string) error {
	t, faults := walkRelease(fsys, dir, Limits{})
	if err := joinFaults(faults); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	faults, err := t.writeTar(out)
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	if err := joinFaults(faults); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

// DigestOf returns the digest of the release in dir: the SHA-256 of the bytes that Pack writes. It fails as Pack does.
func DigestOf(fsys fs.FS, dir string) (Digest, error) {
	t, faults := walkRelease(fsys, dir, Limits{})
	if err := joinFaults(faults); err != nil {
		return "", err
	}
	digest, faults := t.computeDigest()
	return digest, joinFaults(faults)
}

func (t *releaseTree) computeDigest() (Digest, []Fault) {
	h := sha256.New()
	if faults, _ := t.writeTar(h); len(faults) > 0 { // a hash returns no errors
		return "", faults
	}
	return DigestFromSum(h.Sum(nil)), nil
}

func writeTarEntry(w io.Writer, name string, mode fs.FileMode, data []byte) error {
	if needsPax(name) {
		record := paxRecord(name)
		h := ustarHeader("path", 0o644, int64(len(record)), 'x')
		if err := writePadded(w, h[:], []byte(record)); err != nil {
			return err
		}
		name = paxName(name)
	}
	h := ustarHeader(name, mode, int64(len(data)), '0')
	return writePadded(w, h[:], data)
}

func writePadded(w io.Writer, header, data []byte) error {
	if _, err := w.Write(header); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	var zeros [blockSize]byte
	_, err := w.Write(zeros[:paddingSize(len(data))])
	return err
}

func writeTarEnd(w io.Writer) error {
	var zeros [2 * blockSize]byte
	_, err := w.Write(zeros[:])
	return err
}

func paddingSize(n int) int { return (blockSize - n%blockSize) % blockSize }

// needsPax reports whether a name does not fit a ustar header.
func needsPax(name string) bool {
	if len(name) > maxName {
		return true
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return true
		}
	}
	return false
}

// paxName returns the name for the ustar header of a file that needs a pax header, as shown by readers that do not know
// pax.
func paxName(name string) string {
	ascii := make([]byte, 0, maxName)
	for i := 0; i < len(name) && len(ascii) < maxName; i++ {
		c := name[i]
		if c >= 0x80 {
			c = '_'
		}
		ascii = append(ascii, c)
	}
	return string(ascii)
}

// paxRecord returns "LENGTH path=NAME\n", where LENGTH counts itself.
func paxRecord(name string) string {
	rest := len(" path=") + len(name) + 1
	n := rest + 1
	for n != rest+len(strconv.Itoa(n)) {
		n = rest + len(strconv.Itoa(n))
	}
	return strconv.Itoa(n) + " path=" + name + "\n"
}

// ustarHeader makes a ustar header block. name has at most 100 bytes; the limits keep size within 11 octal digits.
func ustarHeader(name string, mode fs.FileMode, size int64, kind byte) (h [blockSize]byte) {
	octal := func(field []byte, n int64) { // zero-padded, ended by NUL
		copy(field, fmt.Sprintf("%0*o", len(field)-1, n))
	}
	copy(h[0:100], name)
	octal(h[100:108], int64(mode))
	octal(h[108:116], 0) // uid
	octal(h[116:124], 0) // gid
	octal(h[124:136], size)
	octal(h[136:148], 0) // mtime
	h[156] = kind
	copy(h[257:265], "ustar\x0000")
	octal(h[329:337], 0) // device major
	octal(h[337:345], 0) // device minor
	copy(h[148:156], "        ")
	var sum int64
	for _, b := range h {
		sum += int64(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return h
}
