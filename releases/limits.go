package releases

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// Limits bounds what a release may hold. A zero field means the default, in brackets.
type Limits struct {
	Files      int   // number of files (10,000)
	FileBytes  int64 // size of one file in bytes (16 MiB)
	TotalBytes int64 // size of all files in bytes (64 MiB)
	Depth      int   // folders around a file, plus one (32)
	PathBytes  int   // length of a path in bytes (512)
}

func (l Limits) orDefault() Limits {
	if l.Files == 0 {
		l.Files = 10_000
	}
	if l.FileBytes == 0 {
		l.FileBytes = 16 << 20
	}
	if l.TotalBytes == 0 {
		l.TotalBytes = 64 << 20
	}
	if l.Depth == 0 {
		l.Depth = 32
	}
	if l.PathBytes == 0 {
		l.PathBytes = 512
	}
	return l
}

// guard checks the files of one release against the limits, and their names against each other. It accepts the names in
// any order, each once.
type guard struct {
	limits     Limits
	files      int
	total      int64
	names      map[string]claimedName // by name without case and Unicode form, as some file systems compare names
	lastFolder string                 // the folder whose name was claimed last
	exceeded   bool                   // the release as a whole exceeds the limits: the caller stops
}

type claimedName struct {
	name   string
	folder bool
}

func newGuard(l Limits) *guard { return &guard{limits: l.orDefault(), names: map[string]claimedName{}} }

// tooLargeError means that a limit is exceeded. A guard's other errors concern names.
type tooLargeError struct{ error }

// faultCodeOf returns the class of a guard's error.
func faultCodeOf(err error) manifest.FaultCode {
	if errors.As(err, new(tooLargeError)) {
		return manifest.TooLarge
	}
	return manifest.WrongName
}

// admitFile returns an error if a file with that path and size can't be part of the release (R23, faults 28 and 31).
func (g *guard) admitFile(name string, size int64) error {
	if err := g.checkPath(name); err != nil {
		return err
	}
	if g.files >= g.limits.Files {
		g.exceeded = true
		return tooLargeError{fmt.Errorf("the release has more than %d files", g.limits.Files)}
	}
	if size < 0 || size > g.limits.FileBytes {
		return tooLargeError{fmt.Errorf("it is larger than %d bytes", g.limits.FileBytes)}
	}
	if g.total+size > g.limits.TotalBytes {
		g.exceeded = true
		return tooLargeError{fmt.Errorf("the release is larger than %d bytes", g.limits.TotalBytes)}
	}
	if dir := path.Dir(name); dir != g.lastFolder {
		for i := range len(name) {
			if name[i] == '/' {
				if err := g.claimName(name[:i], true); err != nil {
					return err
				}
			}
		}
		g.lastFolder = dir
	}
	if err := g.claimName(name, false); err != nil {
		return err
	}
	g.files++
	g.total += size
	return nil
}

// checkPath returns an error if a path alone is reason to refuse the file.
func (g *guard) checkPath(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty")
	case len(name) > g.limits.PathBytes:
		return tooLargeError{fmt.Errorf("the path is longer than %d bytes", g.limits.PathBytes)}
	case !utf8.ValidString(name):
		return fmt.Errorf("the name is not valid UTF-8")
	case name[0] == '/':
		return fmt.Errorf("the path is absolute")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return fmt.Errorf("the name has a backslash or a control character")
	}
	depth := 0
	for element := range strings.SplitSeq(name, "/") {
		depth++
		switch {
		case element == "" || element == ".":
			return fmt.Errorf("the path is not in its shortest form")
		case element == "..":
			return fmt.Errorf("the path leads out of the release")
		case strings.EqualFold(element, ".git"):
			return fmt.Errorf("a release can't have anything named .git: git would not keep it")
		case strings.EqualFold(element, ".gitattributes"):
			return fmt.Errorf(
				"a release can't have a .gitattributes: it could change the bytes on their way through git")
		}
	}
	if depth > g.limits.Depth {
		return tooLargeError{fmt.Errorf("it is more than %d folders deep", g.limits.Depth)}
	}
	return nil
}

// claimName takes a name. It refuses a second name that some file systems treat as the first: a clone there would lose
// one of the files.
func (g *guard) claimName(name string, folder bool) error {
	key := foldName(name)
	old, ok := g.names[key]
	switch {
	case !ok:
		g.names[key] = claimedName{name, folder}
	case old.name != name:
		return fmt.Errorf("the name differs from %s only by case or Unicode form", old.name)
	case !old.folder && !folder:
		return fmt.Errorf("it is there twice")
	case old.folder != folder:
		return fmt.Errorf("it is both a file and a folder")
	}
	return nil
}

func foldName(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return norm.NFC.String(cases.Fold().String(norm.NFC.String(name)))
		}
	}
	return strings.ToLower(name)
}
